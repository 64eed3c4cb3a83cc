"""Token requests without a person, and what comes back from the company's sign-in service."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from oauthflow.protocol.client_auth import ClientCredentials
from oauthflow.protocol.errors import (
    ClientRefusedError,
    GrantRefusedError,
    MalformedResponseError,
    NotConfiguredError,
    TokenEndpointError,
)
from oauthflow.protocol.messages import Response
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.unattended import (
    ID_JAG,
    SubjectToken,
    SubjectTokenType,
    client_credentials_request,
    jwt_bearer_request,
    read_token_exchange_response,
    require_assertion,
    token_exchange_request,
)
from tests.fakes.tokens import platform_jwt

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ISSUER, ENDPOINT, RESOURCE = "https://as.example", "https://as.example/token", "https://mcp.example/mcp"
BASIC = ClientCredentials("robot", Secret("s"), "client_secret_basic")
JWT = platform_jwt(now=NOW)


def test_client_credentials_name_scope_and_resource_only_where_there_are_any() -> None:
    plain = client_credentials_request(
        token_endpoint=ENDPOINT, scope="", resource=None, client=BASIC, issuer=ISSUER, now=NOW
    )
    assert plain.form == {"grant_type": "client_credentials"}
    assert plain.headers["Authorization"].startswith("Basic ")
    full = client_credentials_request(
        token_endpoint=ENDPOINT, scope="a b", resource=RESOURCE, client=BASIC, issuer=ISSUER, now=NOW
    )
    assert full.form == {"grant_type": "client_credentials", "scope": "a b", "resource": RESOURCE}


def test_a_client_that_proves_nothing_gets_no_request() -> None:
    public = ClientCredentials("robot", None, "none")
    with pytest.raises(NotConfiguredError):
        client_credentials_request(
            token_endpoint=ENDPOINT, scope="", resource=None, client=public, issuer=ISSUER, now=NOW
        )


def test_an_exchange_names_the_audience_the_resource_and_what_it_wants() -> None:
    made = token_exchange_request(
        token_endpoint="https://idp.example/token",
        subject=SubjectToken(Secret("id-token"), SubjectTokenType.ID_TOKEN),
        audience=ISSUER,
        resource=RESOURCE,
        scope="",
        client=ClientCredentials("site", None, "none"),
        issuer="https://idp.example",
        now=NOW,
    )
    assert made.form == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "requested_token_type": ID_JAG,
        "audience": ISSUER,
        "resource": RESOURCE,
        "subject_token": "id-token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "client_id": "site",
    }
    assert "id-token" not in repr(made)


def test_an_assertion_goes_with_the_client_or_speaks_for_itself() -> None:
    def made(client: ClientCredentials | None) -> dict[str, str]:
        request = jwt_bearer_request(
            token_endpoint=ENDPOINT, assertion=Secret(JWT), scope="", resource=RESOURCE, client=client, issuer=ISSUER,
            now=NOW,
        )  # fmt: skip
        return {**(request.form or {}), "authorization": request.headers.get("Authorization", "")}

    grant = {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": JWT, "resource": RESOURCE,
    }  # fmt: skip
    assert made(None) == {**grant, "authorization": ""}
    assert made(BASIC)["authorization"].startswith("Basic ")


def answered(status: int = 200, **body: object) -> Response:
    return Response(status, headers={"content-type": "application/json"}, body=json.dumps(body).encode())


def test_an_identity_assertion_is_taken() -> None:
    answer = answered(access_token=JWT, issued_token_type=ID_JAG, token_type="N_A")
    assert read_token_exchange_response(answer, received_at=NOW) == Secret(JWT)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (answered(access_token=JWT, token_type="N_A"), MalformedResponseError),
        (answered(access_token=JWT, issued_token_type="urn:ietf:params:oauth:token-type:access_token"),
         MalformedResponseError),
        (answered(access_token="opaque", issued_token_type=ID_JAG), MalformedResponseError),
        (answered(access_token=None, issued_token_type=ID_JAG), MalformedResponseError),
        (answered(access_token=f"{JWT}{'x' * 20_000}", issued_token_type=ID_JAG), MalformedResponseError),
        (answered(201, access_token=JWT, issued_token_type=ID_JAG), MalformedResponseError),
        (answered(400, error="invalid_grant"), GrantRefusedError),
        (answered(401, error="invalid_client"), ClientRefusedError),
        (answered(400, error="invalid_target"), TokenEndpointError),
        (answered(503), ServerUnavailableError),
    ],
)  # fmt: skip
def test_anything_else_is_not(answer: Response, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_token_exchange_response(answer, received_at=NOW)


def test_a_live_jwt_is_worth_presenting() -> None:
    assert require_assertion(f" {JWT}\n", now=NOW) == Secret(JWT)
    assert require_assertion(JWT, now=None) == Secret(JWT)


@pytest.mark.parametrize("text", ["", "x", "a.b", "a.b.c.d", f"{JWT}=", "e30.bm90IGpzb24.c2ln", f"{'a' * 20_000}.a.a"])
def test_what_is_no_jwt_is_not(text: str) -> None:
    with pytest.raises(NotConfiguredError):
        require_assertion(text, now=NOW)


def test_a_jwt_is_over_at_its_end_and_not_before() -> None:
    ends = NOW + timedelta(seconds=600)
    assert require_assertion(JWT, now=ends - timedelta(seconds=1))
    with pytest.raises(NotConfiguredError, match="ended"):
        require_assertion(JWT, now=ends)
