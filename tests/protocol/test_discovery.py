import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauthflow.protocol.discovery import (
    authorization_server_urls,
    legacy_issuer,
    legacy_metadata,
    protected_resource_urls,
    read_authorization_server_metadata,
    read_protected_resource_metadata,
    require_pkce,
)
from oauthflow.protocol.errors import (
    BlockedUrlError,
    DiscoveryError,
    InvalidRequestError,
    IssuerMismatchError,
    MalformedResponseError,
    PkceNotSupportedError,
    ResourceMismatchError,
)
from oauthflow.protocol.messages import Response
from oauthflow.protocol.metadata import AuthorizationServerMetadata
from tests.requirements import requirement

RESOURCE = "https://mcp.example/.well-known/oauth-protected-resource"
SERVER_URL = "https://mcp.example/mcp"
ISSUER = "https://as.example/tenant"


def answer(document: object, *, status: int = 200) -> Response:
    return Response(status, headers={"content-type": "application/json"}, body=json.dumps(document).encode())


def resource_document(**changes: Any) -> dict[str, Any]:
    return {"resource": SERVER_URL, "authorization_servers": [ISSUER]} | changes


def server_document(**changes: Any) -> dict[str, Any]:
    return {
        "issuer": ISSUER,
        "authorization_endpoint": "https://as.example/authorize",
        "token_endpoint": "https://as.example/token",
    } | changes


@requirement("D-05", "D-13")
@pytest.mark.parametrize(
    ("server_url", "urls"),
    [
        (SERVER_URL, [f"{RESOURCE}/mcp", RESOURCE]),
        ("https://MCP.example:443/a/b", [f"{RESOURCE}/a/b", RESOURCE]),
        ("https://mcp.example/mcp/", [f"{RESOURCE}/mcp/", f"{RESOURCE}/mcp", RESOURCE]),
        ("https://mcp.example/", [RESOURCE]),
        ("https://mcp.example", [RESOURCE]),
        ("https://mcp.example/mcp?t=1", [f"{RESOURCE}/mcp?t=1", RESOURCE]),
        ("http://[::1]:8000/mcp", [f"http://[::1]:8000{RESOURCE[19:]}/mcp", f"http://[::1]:8000{RESOURCE[19:]}"]),
    ],
)
def test_the_path_inserted_address_goes_before_the_root(server_url: str, urls: list[str]) -> None:
    assert protected_resource_urls(server_url, challenge_url=None) == urls


@requirement("D-04", "D-05")
def test_the_address_of_the_challenge_goes_first_as_received() -> None:
    odd = "https://MCP.example/odd/place?x=1"
    assert protected_resource_urls(SERVER_URL, challenge_url=odd)[0] == odd
    assert protected_resource_urls(SERVER_URL, challenge_url=f"{RESOURCE}/mcp") == [f"{RESOURCE}/mcp", RESOURCE]
    assert protected_resource_urls(SERVER_URL, challenge_url="") == [f"{RESOURCE}/mcp", RESOURCE]


def test_a_server_url_that_is_none_is_an_error() -> None:
    with pytest.raises(InvalidRequestError):
        protected_resource_urls("mcp.example", challenge_url=None)


@requirement("D-04", "A-08")
@pytest.mark.parametrize("resource", [SERVER_URL, "https://mcp.example", "https://mcp.example/"])
def test_a_fitting_resource_is_kept_character_by_character(resource: str) -> None:
    response = answer(resource_document(resource=resource, scopes_supported=["a"]))
    metadata = read_protected_resource_metadata(response, server_url=SERVER_URL)
    assert metadata.resource == resource
    assert metadata.authorization_servers == (ISSUER,)


@requirement("D-14")
@pytest.mark.parametrize("resource", ["https://evil.example/mcp", "https://mcp.example/other", f"{SERVER_URL}/sub"])
def test_a_document_for_another_resource_is_refused(resource: str) -> None:
    response = answer(resource_document(resource=resource))
    with pytest.raises(ResourceMismatchError):
        read_protected_resource_metadata(response, server_url=SERVER_URL)
    with pytest.raises(ResourceMismatchError):
        read_protected_resource_metadata(response, server_url=SERVER_URL, accept_resource=resource + "/")


def test_an_administrator_can_accept_a_resource_that_does_not_fit() -> None:
    response = answer(resource_document(resource="urn:mcp:prod"))
    metadata = read_protected_resource_metadata(response, server_url=SERVER_URL, accept_resource="urn:mcp:prod")
    assert metadata.resource == "urn:mcp:prod"


@pytest.mark.parametrize("servers", [None, []])
def test_a_document_without_authorization_servers_is_of_use_only_with_a_configured_issuer(servers: object) -> None:
    response = answer(resource_document(authorization_servers=servers))
    with pytest.raises(DiscoveryError):
        read_protected_resource_metadata(response, server_url=SERVER_URL)
    metadata = read_protected_resource_metadata(response, server_url=SERVER_URL, issuer_known=True)
    assert metadata.authorization_servers == ()


@pytest.mark.parametrize("status", [201, 204, 302, 401, 404, 500])
def test_only_status_200_gives_metadata(status: int) -> None:
    with pytest.raises(DiscoveryError):
        read_protected_resource_metadata(answer(resource_document(), status=status), server_url=SERVER_URL)
    with pytest.raises(DiscoveryError):
        read_authorization_server_metadata(answer(server_document(), status=status), issuer=ISSUER)


def test_a_document_that_is_no_json_object_is_refused() -> None:
    with pytest.raises(MalformedResponseError):
        read_protected_resource_metadata(answer([]), server_url=SERVER_URL)
    with pytest.raises(MalformedResponseError):
        read_authorization_server_metadata(Response(200, body=b"{}"), issuer=ISSUER)


@requirement("D-09", "D-10", "D-13")
@pytest.mark.parametrize("issuer", [ISSUER, f"{ISSUER}/"])
def test_an_issuer_with_a_path_has_three_addresses_and_not_the_bare_root(issuer: str) -> None:
    assert authorization_server_urls(issuer) == [
        "https://as.example/.well-known/oauth-authorization-server/tenant",
        "https://as.example/.well-known/openid-configuration/tenant",
        "https://as.example/tenant/.well-known/openid-configuration",
    ]


@requirement("D-09", "D-11", "D-13")
@pytest.mark.parametrize("issuer", ["https://as.example", "https://as.example/", "https://AS.example:443"])
def test_an_issuer_without_a_path_has_two_addresses_the_oauth_one_first(issuer: str) -> None:
    assert authorization_server_urls(issuer) == [
        "https://as.example/.well-known/oauth-authorization-server",
        "https://as.example/.well-known/openid-configuration",
    ]


@pytest.mark.parametrize(
    "issuer",
    ["", "as.example", "file:///x", "https://as.example/?a=b", "https://as.example/#x", "https://u@as.example"],
)
def test_an_issuer_that_is_no_plain_url_is_refused(issuer: str) -> None:
    with pytest.raises(DiscoveryError):
        authorization_server_urls(issuer)


def test_an_issuer_at_an_address_in_disguise_is_blocked() -> None:
    with pytest.raises(BlockedUrlError):
        authorization_server_urls("https://2130706433/")


@requirement("D-09", "D-12")
def test_a_document_of_the_issuer_asked_for_is_read() -> None:
    assert read_authorization_server_metadata(answer(server_document()), issuer=ISSUER).issuer == ISSUER


@requirement("D-12")
@pytest.mark.parametrize(
    "named",
    [
        f"{ISSUER}/",
        "https://AS.example/tenant",
        "https://as.example:443/tenant",
        "https://as.example/%74enant",
        "https://as.example/Tenant",
        "https://as.example",
        "https://evil.example/tenant",
        "http://as.example/tenant",
    ],
)
def test_a_document_whose_issuer_differs_by_anything_is_not_used(named: str) -> None:
    with pytest.raises(IssuerMismatchError):
        read_authorization_server_metadata(answer(server_document(issuer=named)), issuer=ISSUER)


@requirement("D-12")
def test_a_second_spelling_of_the_issuer_has_to_be_accepted_and_is_compared_exactly() -> None:
    response = answer(server_document(issuer=f"{ISSUER}/"))
    metadata = read_authorization_server_metadata(response, issuer=ISSUER, accepted_issuer=f"{ISSUER}/")
    assert metadata.issuer == f"{ISSUER}/"
    with pytest.raises(IssuerMismatchError):
        read_authorization_server_metadata(response, issuer=ISSUER, accepted_issuer=f"{ISSUER}//")


ENDPOINTS = [
    "authorization_endpoint",
    "token_endpoint",
    "registration_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
]


@requirement("A-21")
@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize(
    "url",
    [
        *[
            "javascript:alert(1)",
            "vbscript:x",
            "data:text/html,x",
            "file:///x",
            "https://a/$(id)",
            "/authorize",
            "myapp://x",
        ],
        *["http://as.example/x", "https://user:pass@as.example/", "https://as.example/#x"],
    ],
)
def test_an_endpoint_that_is_no_plain_https_url_is_refused(name: str, url: str) -> None:
    with pytest.raises(DiscoveryError):
        read_authorization_server_metadata(answer(server_document(**{name: url})), issuer=ISSUER)


@requirement("U-02")
def test_plain_http_is_left_for_loopback_and_for_issuers_that_are_plain_http_themselves() -> None:
    document = server_document(token_endpoint="http://127.0.0.1:9000/token")
    assert read_authorization_server_metadata(answer(document), issuer=ISSUER).token_endpoint.startswith("http:")
    document = server_document(issuer="http://as.internal", token_endpoint="http://as.internal/token")
    assert read_authorization_server_metadata(answer(document), issuer="http://as.internal")


def test_an_endpoint_at_an_address_in_disguise_is_blocked() -> None:
    with pytest.raises(BlockedUrlError):
        read_authorization_server_metadata(answer(server_document(token_endpoint="https://0x7f.1/")), issuer=ISSUER)


@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize(
    "query", ["redirect_uri=https://evil.example&x", "state=x", "x=1;client_id=y", "SCOPE", "%73tate"]
)
def test_an_endpoint_that_presets_an_oauth_parameter_is_refused(name: str, query: str) -> None:
    document = server_document(**{name: f"https://as.example/x?{query}"})
    with pytest.raises(DiscoveryError):
        read_authorization_server_metadata(answer(document), issuer=ISSUER)


def test_an_endpoint_may_have_a_query_of_its_own() -> None:
    document = server_document(authorization_endpoint="https://as.example/authorize?p=policy&tenant=t")
    metadata = read_authorization_server_metadata(answer(document), issuer=ISSUER)
    assert metadata.authorization_endpoint == "https://as.example/authorize?p=policy&tenant=t"


def metadata_with(methods: list[str] | None) -> AuthorizationServerMetadata:
    return AuthorizationServerMetadata.from_document(server_document(code_challenge_methods_supported=methods))


@requirement("A-03", "A-04")
def test_a_server_that_lists_s256_passes() -> None:
    require_pkce(metadata_with(["plain", "S256"]), assume_s256=False)


@requirement("A-04")
@pytest.mark.parametrize("methods", [None, [], ["plain"], ["s256"]])
def test_a_server_that_does_not_list_s256_is_refused(methods: list[str] | None) -> None:
    with pytest.raises(PkceNotSupportedError):
        require_pkce(metadata_with(methods), assume_s256=False)


@requirement("A-04")
def test_an_administrator_vouches_only_for_a_server_that_says_nothing() -> None:
    require_pkce(metadata_with(None), assume_s256=True)
    for methods in ([], ["plain"]):
        with pytest.raises(PkceNotSupportedError):
            require_pkce(metadata_with(methods), assume_s256=True)


def test_a_server_of_revision_2025_03_26_is_its_own_authorization_server() -> None:
    assert legacy_issuer("https://MCP.example/mcp?x=1") == "https://mcp.example"
    metadata = legacy_metadata("http://localhost:8000/mcp")
    assert metadata.issuer == "http://localhost:8000"
    assert metadata.authorization_endpoint == "http://localhost:8000/authorize"
    assert metadata.token_endpoint == "http://localhost:8000/token"
    assert metadata.registration_endpoint == "http://localhost:8000/register"
    require_pkce(metadata, assume_s256=False)
    assert AuthorizationServerMetadata.from_document(metadata.document) == metadata


@given(st.text(max_size=30) | st.text("/.:@?#ax-", max_size=30).map("https://a.example".__add__))
def test_any_issuer_gives_well_known_addresses_on_its_own_origin_or_one_of_our_errors(issuer: str) -> None:
    try:
        urls = authorization_server_urls(issuer)
    except (DiscoveryError, BlockedUrlError):
        return
    assert all(url.startswith(legacy_issuer(issuer) + "/") and "/.well-known/" in url for url in urls)


@given(st.dictionaries(st.sampled_from(ENDPOINTS), st.text(max_size=40)))
def test_any_endpoints_are_accepted_or_refused_with_one_of_our_errors(endpoints: dict[str, str]) -> None:
    try:
        metadata = read_authorization_server_metadata(answer(server_document(**endpoints)), issuer=ISSUER)
    except (DiscoveryError, BlockedUrlError, MalformedResponseError):
        return
    assert metadata.issuer == ISSUER
