"""How we present ourselves."""

from __future__ import annotations

import json

import pytest

from oauthflow.protocol.client_metadata import client_metadata, client_metadata_document, is_metadata_document_url
from oauthflow.protocol.errors import InvalidRequestError
from tests.requirements import requirement

CALLBACK = "https://broker.example/api/v1/oauth/callback"
DOCUMENT_URL = "https://broker.example/oauth/client-metadata.json"
JWKS_URI = "https://broker.example/oauth/jwks.json"


def metadata(
    *, auth_method: str = "none", scope: str = "", jwks_uri: str | None = None, web: bool = True
) -> dict[str, object]:
    return client_metadata(
        client_name="Broker",
        redirect_uri=CALLBACK,
        client_uri="https://broker.example",
        scope=scope,
        auth_method=auth_method,
        jwks_uri=jwks_uri,
        web=web,
    )


def document(
    *, client_id: str = DOCUMENT_URL, auth_method: str = "none", jwks_uri: str | None = None
) -> dict[str, object]:
    return client_metadata_document(
        client_id=client_id,
        client_name="Broker",
        redirect_uri=CALLBACK,
        client_uri="",
        auth_method=auth_method,
        jwks_uri=jwks_uri,
        web=True,
    )


@requirement("R-16", "R-22", "A-16")
def test_the_metadata_names_one_redirect_uri_both_grants_and_the_application_type() -> None:
    assert metadata() == {
        "client_name": "Broker",
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "web",
        "client_uri": "https://broker.example",
    }


@requirement("R-16")
@pytest.mark.parametrize(("web", "application_type"), [(True, "web"), (False, "native")])
def test_the_application_type_is_web_when_hosted_and_native_on_localhost(web: bool, application_type: str) -> None:
    assert metadata(web=web)["application_type"] == application_type


def test_a_scope_is_named_when_there_is_one() -> None:
    assert metadata(scope="mcp:read")["scope"] == "mcp:read"
    assert "scope" not in metadata()


@pytest.mark.parametrize("auth_method", ["none", "client_secret_basic", "client_secret_post"])
def test_keys_are_named_only_for_private_key_jwt(auth_method: str) -> None:
    found = metadata(auth_method=auth_method, jwks_uri=JWKS_URI)
    assert found["token_endpoint_auth_method"] == auth_method
    assert not {"jwks_uri", "token_endpoint_auth_signing_alg"} & found.keys()


@requirement("R-07")
def test_private_key_jwt_names_our_keys_and_their_algorithm() -> None:
    found = document(auth_method="private_key_jwt", jwks_uri=JWKS_URI)
    assert (found["jwks_uri"], found["token_endpoint_auth_signing_alg"]) == (JWKS_URI, "ES256")


@pytest.mark.parametrize(
    ("auth_method", "jwks_uri"), [("private_key_jwt", None), ("private_key_jwt", ""), ("mtls", None)]
)
def test_a_method_that_cannot_work_is_refused(auth_method: str, jwks_uri: str | None) -> None:
    with pytest.raises(InvalidRequestError):
        metadata(auth_method=auth_method, jwks_uri=jwks_uri)


@requirement("R-05", "R-06", "R-22")
def test_the_document_holds_its_own_url_a_name_and_the_redirect_uris() -> None:
    found = json.loads(json.dumps(document()))
    assert (found["client_id"], found["client_name"], found["redirect_uris"]) == (DOCUMENT_URL, "Broker", [CALLBACK])
    assert "refresh_token" in found["grant_types"]
    assert "client_uri" not in found


@pytest.mark.parametrize("auth_method", ["client_secret_basic", "client_secret_post"])
def test_the_document_cannot_have_a_secret(auth_method: str) -> None:
    with pytest.raises(InvalidRequestError):
        document(auth_method=auth_method)


NO_DOCUMENT_URLS = [
    "http://broker.example/oauth/client-metadata.json",
    "http://localhost:8000/oauth/client-metadata.json",
    "https://broker.example",
    "https://broker.example/",
    "https://broker.example/a/../b",
    "https://broker.example/./b",
    "https://broker.example/b?c=d",
    "https://broker.example/b?",
    "https://broker.example/b#c",
    "https://me@broker.example/b",
    "ftp://broker.example/b",
    "broker-client",
    "",
]


@requirement("R-05")
@pytest.mark.parametrize("url", NO_DOCUMENT_URLS)
def test_a_url_that_cannot_be_a_client_id_is_refused(url: str) -> None:
    assert not is_metadata_document_url(url)
    with pytest.raises(InvalidRequestError):
        document(client_id=url)


@pytest.mark.parametrize("url", [DOCUMENT_URL, "https://broker.example:8443/c", "https://broker.example/c/"])
def test_an_https_url_with_a_path_can_be_a_client_id(url: str) -> None:
    assert is_metadata_document_url(url)
