from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauthflow.protocol.errors import DiscoveryError, MalformedResponseError
from oauthflow.protocol.metadata import AuthorizationServerMetadata, ProtectedResourceMetadata
from tests.requirements import requirement

ISSUER = "https://AS.example:443/"
SERVER: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": "https://as.example/authorize",
    "token_endpoint": "https://as.example/token",
}
TEXTS = [
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "registration_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
]
LISTS = [
    "scopes_supported",
    "token_endpoint_auth_methods_supported",
    "code_challenge_methods_supported",
    "grant_types_supported",
    "token_endpoint_auth_signing_alg_values_supported",
]
FLAGS = ["authorization_response_iss_parameter_supported", "client_id_metadata_document_supported"]


def test_a_minimal_document_says_nothing_about_the_rest() -> None:
    metadata = AuthorizationServerMetadata.from_document(SERVER)
    assert metadata == AuthorizationServerMetadata(
        issuer=ISSUER,
        authorization_endpoint="https://as.example/authorize",
        token_endpoint="https://as.example/token",
        document=SERVER,
    )
    assert metadata.code_challenge_methods_supported is None
    assert not metadata.iss_parameter_supported


@requirement("R-14")
def test_a_full_document_is_read_and_its_urls_stay_as_they_are() -> None:
    document = SERVER | {name: f"https://as.example/{name}" for name in TEXTS[3:]}
    document |= {name: [name] for name in LISTS} | dict.fromkeys(FLAGS, True)
    metadata = AuthorizationServerMetadata.from_document(document)
    assert metadata.issuer == ISSUER
    assert metadata.registration_endpoint == "https://as.example/registration_endpoint"
    assert metadata.revocation_endpoint == "https://as.example/revocation_endpoint"
    assert metadata.introspection_endpoint == "https://as.example/introspection_endpoint"
    assert metadata.scopes_supported == ("scopes_supported",)
    assert metadata.token_endpoint_auth_methods_supported == ("token_endpoint_auth_methods_supported",)
    assert metadata.code_challenge_methods_supported == ("code_challenge_methods_supported",)
    assert metadata.grant_types_supported == ("grant_types_supported",)
    assert metadata.signing_algs == ("token_endpoint_auth_signing_alg_values_supported",)
    assert metadata.iss_parameter_supported
    assert metadata.client_id_metadata_document_supported


@pytest.mark.parametrize("name", ["issuer", "authorization_endpoint", "token_endpoint"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_required_member_that_is_absent_or_empty_is_refused(name: str, value: str | None) -> None:
    with pytest.raises(DiscoveryError):
        AuthorizationServerMetadata.from_document(SERVER | {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in TEXTS for value in (1, True, ["x"], {"x": "y"})],
        *[(name, value) for name in LISTS for value in ("x", 1, {"x": "y"}, [1], [None], ["x", ["y"]])],
        *[(name, value) for name in FLAGS for value in ("true", 1, [])],
    ],
)
def test_a_member_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(MalformedResponseError):
        AuthorizationServerMetadata.from_document(SERVER | {name: value})


def test_null_and_empty_text_count_as_left_out() -> None:
    document = SERVER | dict.fromkeys(LISTS + FLAGS) | dict.fromkeys(TEXTS[3:], "")
    metadata = AuthorizationServerMetadata.from_document(document)
    assert metadata.registration_endpoint is None
    assert metadata.scopes_supported is None
    assert not metadata.client_id_metadata_document_supported


def test_a_document_of_a_protected_resource_is_read() -> None:
    document = {"resource": "https://mcp.example/", "authorization_servers": [ISSUER], "scopes_supported": []}
    metadata = ProtectedResourceMetadata.from_document(document)
    assert metadata == ProtectedResourceMetadata("https://mcp.example/", (ISSUER,), (), document)
    bare = ProtectedResourceMetadata.from_document({"resource": "https://mcp.example"})
    assert (bare.authorization_servers, bare.scopes_supported) == ((), None)


@pytest.mark.parametrize("document", [{}, {"resource": None}, {"resource": ""}])
def test_a_protected_resource_without_a_name_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(DiscoveryError):
        ProtectedResourceMetadata.from_document(document)


@pytest.mark.parametrize(
    "wrong", [{"resource": ["x"]}, {"authorization_servers": "https://as.example"}, {"scopes_supported": [1]}]
)
def test_a_protected_resource_with_wrong_types_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MalformedResponseError):
        ProtectedResourceMetadata.from_document({"resource": "https://mcp.example"} | wrong)


ANYTHING = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=5) | st.none())


@given(st.dictionaries(st.sampled_from(TEXTS + LISTS + FLAGS), ANYTHING))
def test_any_document_of_a_server_gives_metadata_or_one_of_our_errors(document: dict[str, Any]) -> None:
    try:
        metadata = AuthorizationServerMetadata.from_document(document)
    except (DiscoveryError, MalformedResponseError):
        return
    assert metadata.issuer == document["issuer"]


@given(st.dictionaries(st.sampled_from(["resource", "authorization_servers", "scopes_supported"]), ANYTHING))
def test_any_document_of_a_resource_gives_metadata_or_one_of_our_errors(document: dict[str, Any]) -> None:
    try:
        metadata = ProtectedResourceMetadata.from_document(document)
    except (DiscoveryError, MalformedResponseError):
        return
    assert metadata.resource == document["resource"]
