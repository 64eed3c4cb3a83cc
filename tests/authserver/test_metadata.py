"""What our authorization server publishes about itself."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.test import Client, override_settings

from tests.requirements import requirement

pytestmark = pytest.mark.django_db
ROOT = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"


@requirement("D-08", "A-05", "A-12", "R-14", "X-07", "AS16", "AS18")
@pytest.mark.parametrize("path", [ROOT, OPENID])
def test_the_metadata_says_what_there_is_and_nothing_else(client: Client, path: str) -> None:
    answer = client.get(path)
    said = answer.json()
    assert answer.headers["Content-Type"] == "application/json"
    assert said["issuer"] == settings.PUBLIC_URL
    assert said["response_types_supported"] == ["code"]
    assert said["code_challenge_methods_supported"] == ["S256"]
    assert said["authorization_response_iss_parameter_supported"] is True
    assert said["client_id_metadata_document_supported"] is True
    assert not {"password", "implicit"} & set(said["grant_types_supported"])
    assert {"none", "client_secret_basic", "client_secret_post", "private_key_jwt"} == set(
        said["token_endpoint_auth_methods_supported"]
    )
    assert "openid" not in said["scopes_supported"]
    for name in ("authorization", "token", "registration", "introspection", "revocation"):
        assert said[f"{name}_endpoint"].startswith(f"{settings.PUBLIC_URL}/oauth/")


@requirement("A-05", "D-09")
def test_clients_that_ask_the_openid_way_find_the_members_they_insist_on(client: Client) -> None:
    said = client.get(OPENID).json()
    assert {"jwks_uri", "subject_types_supported", "id_token_signing_alg_values_supported"} <= said.keys()


@requirement("AS18")
@pytest.mark.parametrize(
    "path",
    [
        f"{ROOT}/", f"{ROOT}/mcp/notes", f"{ROOT}/mcp", f"{OPENID}/mcp/notes", f"/mcp/notes{OPENID}",
        f"/mcp/notes{ROOT}", f"{ROOT}.json", "/.well-known/", "/.well-known/oauth-authorization-serve", f"{ROOT}/..%2f",
    ],
)  # fmt: skip
def test_at_any_other_address_there_is_no_issuer_of_ours(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "issuer" not in answer.content.decode()


@requirement("X-11")
@pytest.mark.parametrize("path", [ROOT, OPENID])
def test_scripts_of_any_site_may_read_the_metadata(client: Client, path: str) -> None:
    origin = {"Origin": "https://inspector.example"}
    asked = origin | {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "mcp-protocol-version",
    }
    assert client.get(path, headers=origin).headers["Access-Control-Allow-Origin"] == "*"
    preflight = client.options(path, headers=asked)
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert "mcp-protocol-version" in preflight.headers["Access-Control-Allow-Headers"].lower()


@requirement("A-19")
@override_settings(PUBLIC_URL="https://mcp.example.org")
def test_every_address_in_the_metadata_is_below_our_issuer(client: Client) -> None:
    said = client.get(ROOT, headers={"Host": "testserver", "X-Forwarded-Host": "evil.example"}).json()
    addresses = [value for name, value in said.items() if name.endswith(("_endpoint", "_uri"))]
    assert len(addresses) >= 5
    assert all(address.startswith("https://mcp.example.org/") for address in addresses)
    assert said["issuer"] == "https://mcp.example.org"
