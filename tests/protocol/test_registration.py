"""Which way to get a client id, and dynamic registration."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from oauthflow.protocol.client_metadata import client_metadata
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import InvalidRequestError, MalformedResponseError, NoClientError, RegistrationError
from oauthflow.protocol.messages import Response
from oauthflow.protocol.metadata import AuthorizationServerMetadata
from oauthflow.protocol.registration import (
    RegisteredClient,
    RegistrationMethod,
    choose_registration,
    deletion_request,
    read_registration_response,
    registration_request,
)
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.secret import Secret
from tests.requirements import requirement

ISSUER = "https://as.example.com/tenant"
CALLBACK = "https://broker.example/api/v1/oauth/callback"
DOCUMENT_URL = "https://broker.example/oauth/client-metadata.json"
REGISTER = "https://as.example.com/register"


def choose(
    *,
    policy: str = "auto",
    has_client_id: bool = False,
    accepts_documents: bool = False,
    url: str | None = DOCUMENT_URL,
    endpoint: str | None = None,
) -> RegistrationMethod:
    metadata = AuthorizationServerMetadata(
        issuer=ISSUER,
        authorization_endpoint="https://as.example.com/authorize",
        token_endpoint="https://as.example.com/token",
        registration_endpoint=endpoint,
        client_id_metadata_document_supported=accepts_documents,
    )
    return choose_registration(policy=policy, has_client_id=has_client_id, metadata=metadata, metadata_document_url=url)


def answer(status: int = 201, **document: object) -> Response:
    return Response(status, headers={"content-type": "application/json"}, body=json.dumps(document).encode())


def read(response: Response) -> RegisteredClient:
    return read_registration_response(response, redirect_uri=CALLBACK, issuer=ISSUER)


def registered(**changes: object) -> RegisteredClient:
    return read(answer(**{"client_id": "client-1", **changes}))


@requirement("R-01", "R-02", "R-15")
def test_a_client_id_entered_by_hand_goes_before_everything() -> None:
    chosen = choose(has_client_id=True, accepts_documents=True, endpoint=REGISTER)
    assert chosen == RegistrationMethod.PRE_REGISTERED


@requirement("R-01", "R-02", "R-03", "R-14")
def test_our_metadata_document_goes_before_dynamic_registration() -> None:
    assert choose(accepts_documents=True, endpoint=REGISTER) == RegistrationMethod.METADATA_DOCUMENT


@requirement("R-01", "R-02", "R-04", "R-14")
def test_without_the_servers_promise_our_document_is_not_used() -> None:
    assert choose(accepts_documents=False, endpoint=REGISTER) == RegistrationMethod.DYNAMIC


@requirement("R-05")
@pytest.mark.parametrize(
    "url", [None, "", "http://localhost:8000/oauth/client-metadata.json", "https://broker.example/"]
)
def test_a_document_without_a_public_https_address_is_not_used(url: str | None) -> None:
    assert choose(accepts_documents=True, url=url, endpoint=REGISTER) == RegistrationMethod.DYNAMIC


@requirement("R-02")
def test_without_any_way_an_administrator_is_needed() -> None:
    with pytest.raises(NoClientError) as refused:
        choose()
    assert refused.value.code == Code.REGISTRATION_NOT_SUPPORTED
    assert not refused.value.retryable


@pytest.mark.parametrize("policy", ["pre_registered", "metadata_document", "dynamic"])
def test_the_way_that_an_administrator_insists_on_is_taken(policy: str) -> None:
    assert choose(policy=policy, has_client_id=True, accepts_documents=True, endpoint=REGISTER) == policy


@pytest.mark.parametrize(
    ("policy", "has_client_id", "accepts_documents", "endpoint"),
    [
        ("pre_registered", False, True, REGISTER),
        ("metadata_document", True, False, REGISTER),
        ("dynamic", True, True, None),
    ],
)
def test_no_other_way_replaces_the_one_insisted_on(
    policy: str, has_client_id: bool, accepts_documents: bool, endpoint: str | None
) -> None:
    with pytest.raises(NoClientError) as refused:
        choose(policy=policy, has_client_id=has_client_id, accepts_documents=accepts_documents, endpoint=endpoint)
    assert policy in refused.value.detail


@pytest.mark.parametrize("policy", ["", "cimd", "AUTO"])
def test_an_unknown_policy_is_refused(policy: str) -> None:
    with pytest.raises(InvalidRequestError):
        choose(policy=policy, has_client_id=True)


@requirement("R-16", "R-22")
def test_the_request_is_our_metadata_as_json() -> None:
    client = client_metadata(client_name="Broker", redirect_uri=CALLBACK, client_uri="", web=False)
    request = registration_request(REGISTER, client=client)
    assert (request.method, request.url, request.form) == ("POST", REGISTER, None)
    assert request.headers == {"Accept": "application/json"}
    assert request.json == client
    assert client["application_type"] == "native"
    assert client["grant_types"] == ["authorization_code", "refresh_token"]


@requirement("R-04")
@pytest.mark.parametrize("status", [200, 201])
def test_a_complete_answer_is_read(status: int) -> None:
    found = read(
        answer(
            status,
            client_id="client-1",
            client_secret="s3cret",
            client_secret_expires_at=1_800_000_000,
            redirect_uris=[CALLBACK],
            token_endpoint_auth_method="client_secret_post",
            registration_client_uri="https://as.example.com/register/client-1",
            registration_access_token="management",
        )
    )
    assert found == RegisteredClient(
        client_id="client-1",
        client_secret=Secret("s3cret"),
        secret_expires_at=datetime(2027, 1, 15, 8, 0, 0, tzinfo=UTC),
        auth_method="client_secret_post",
        registration_client_uri="https://as.example.com/register/client-1",
        registration_access_token=Secret("management"),
    )
    assert not any(text in repr(found) for text in ("s3cret", "management"))


def test_an_answer_of_a_client_id_alone_is_a_public_client() -> None:
    assert registered() == RegisteredClient("client-1", None, None, "none", None, None)


@requirement("T-12")
@pytest.mark.parametrize(
    ("requested", "client_secret", "auth_method"),
    [
        ("client_secret_basic", "s", "client_secret_basic"),
        ("client_secret_post", "s", "client_secret_post"),
        ("client_secret_post", None, "none"),
        ("none", None, "none"),
        ("none", "s", "none"),
        ("private_key_jwt", None, "private_key_jwt"),
    ],
)
def test_a_server_that_names_no_method_gave_the_requested_one(
    requested: str, client_secret: str | None, auth_method: str
) -> None:
    found = read_registration_response(
        answer(client_id="client-1", client_secret=client_secret),
        redirect_uri=CALLBACK,
        issuer=ISSUER,
        requested_auth_method=requested,
    )
    assert found.auth_method == auth_method
    assert bool(found.client_secret) == (auth_method in {"client_secret_basic", "client_secret_post"})


def test_without_a_requested_method_the_default_of_the_rfc_holds() -> None:
    assert registered(client_secret="s").auth_method == "client_secret_basic"


def test_a_secret_for_a_public_client_is_not_kept() -> None:
    found = registered(client_secret="s", client_secret_expires_at=1, token_endpoint_auth_method="none")
    assert (found.client_secret, found.secret_expires_at, found.auth_method) == (None, None, "none")


@pytest.mark.parametrize("value", [None, 0])
def test_a_secret_need_not_expire(value: object) -> None:
    assert registered(client_secret="s", client_secret_expires_at=value).secret_expires_at is None


def test_an_expiry_in_milliseconds_is_read_as_such() -> None:
    found = registered(client_secret="s", client_secret_expires_at=1_800_000_000_000)
    assert found.secret_expires_at == datetime(2027, 1, 15, 8, 0, 0, tzinfo=UTC)


@requirement("R-17")
@pytest.mark.parametrize(
    "redirect_uris",
    [
        ["https://evil.example/callback"],
        [CALLBACK, "https://evil.example/callback"],
        [CALLBACK + "/"],
        [CALLBACK.upper()],
        [],
        CALLBACK,
        {"0": CALLBACK},
        7,
    ],
    ids=repr,
)
def test_other_redirect_uris_than_ours_are_refused(redirect_uris: object) -> None:
    with pytest.raises(RegistrationError) as refused:
        registered(redirect_uris=redirect_uris)
    assert refused.value.code == Code.INVALID_REDIRECT_URI


@pytest.mark.parametrize(
    "changes",
    [
        {"token_endpoint_auth_method": "tls_client_auth", "client_secret": "s"},
        {"token_endpoint_auth_method": "client_secret_jwt", "client_secret": "s"},
        {"token_endpoint_auth_method": ["none"]},
        {"token_endpoint_auth_method": ""},
        {"token_endpoint_auth_method": "client_secret_basic"},
        {"token_endpoint_auth_method": "client_secret_post", "client_secret": ""},
    ],
)
def test_an_authentication_method_that_we_cannot_use_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RegistrationError):
        registered(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"client_id": ""},
        {"client_id": 7},
        {"client_id": "a\r\nb"},
        {"client_id": "é"},
        {"client_id": "c" * 2049},
        {"client_secret": 7},
        {"client_secret": "a\r\nb"},
        {"client_secret": "s" * 4097},
        {"client_secret_expires_at": -1},
        {"client_secret_expires_at": True},
        {"client_secret_expires_at": "never"},
        {"client_secret_expires_at": 1.5},
        {"client_secret_expires_at": 10**20},
    ],
    ids=lambda changes: repr(changes)[:40],
)
def test_an_answer_of_wrong_types_or_characters_is_malformed(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedResponseError):
        registered(**changes)


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/register/client-1",
        "https://as.example.com.evil.example/register",
        "https://as.example.com:8443/register",
        "http://as.example.com/register",
        "https://as.example.com@evil.example/register",
        "http://169.254.169.254/latest",
        "http://127.0.0.1/register",
        "javascript:alert(1)",
        "/register/client-1",
        "",
        7,
        None,
    ],
)
def test_a_management_uri_off_the_issuers_origin_is_dropped_with_its_token(uri: object) -> None:
    found = registered(registration_client_uri=uri, registration_access_token="management")
    assert (found.registration_client_uri, found.registration_access_token) == (None, None)


@pytest.mark.parametrize("token", [None, "", 7, "a b", "a\r\nX: y", "t" * 4097], ids=lambda token: repr(token)[:12])
def test_a_management_uri_without_a_usable_token_is_dropped(token: object) -> None:
    found = registered(registration_client_uri="https://as.example.com/r/1", registration_access_token=token)
    assert (found.registration_client_uri, found.registration_access_token) == (None, None)


@requirement("R-17")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("invalid_redirect_uri", Code.INVALID_REDIRECT_URI),
        ("invalid_client_metadata", Code.INVALID_CLIENT_METADATA),
        ("invalid_software_statement", Code.INVALID_CLIENT_METADATA),
        ("unapproved_software_statement", Code.INVALID_CLIENT_METADATA),
        ("marker", Code.INVALID_CLIENT_METADATA),
        (None, Code.INVALID_CLIENT_METADATA),
        (["invalid_redirect_uri"], Code.INVALID_CLIENT_METADATA),
    ],
)
def test_a_refusal_becomes_a_code_of_the_fixed_list(error: object, code: Code) -> None:
    with pytest.raises(RegistrationError) as refused:
        read(answer(400, error=error, error_description="marker"))
    assert refused.value.code == code
    assert "marker" not in str(refused.value)


@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_refusal_that_is_not_json_is_still_a_refusal(status: int) -> None:
    with pytest.raises(RegistrationError) as refused:
        read(Response(status, headers={"content-type": "text/html"}, body=b"<html>"))
    assert type(refused.value) is RegistrationError


@requirement("R-02")
@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_closed_registration_needs_an_administrator(status: int) -> None:
    with pytest.raises(NoClientError) as refused:
        read(Response(status))
    assert refused.value.code == Code.REGISTRATION_NOT_SUPPORTED


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_unavailable_server_is_asked_again_later(status: int) -> None:
    with pytest.raises(ServerUnavailableError) as unavailable:
        read(Response(status, headers={"retry-after": "5"}))
    assert unavailable.value.retry_after == 5


@pytest.mark.parametrize("status", [202, 204, 302])
def test_another_status_is_malformed(status: int) -> None:
    with pytest.raises(MalformedResponseError):
        read(answer(status, client_id="client-1"))


def test_garbage_under_201_is_malformed() -> None:
    with pytest.raises(MalformedResponseError):
        read(Response(201, headers={"content-type": "text/html"}, body=b"<html>"))


def test_the_deletion_carries_its_token_in_the_header() -> None:
    request = deletion_request("https://as.example.com/r/1", registration_access_token=Secret("marker"))
    assert (request.method, request.url) == ("DELETE", "https://as.example.com/r/1")
    assert request.headers == {"Authorization": "Bearer marker"}
    assert "marker" not in repr(request)
