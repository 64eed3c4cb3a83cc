"""The authorization request, and the response that comes back."""

from __future__ import annotations

import pytest

from oauthflow.protocol.authorization import RESERVED_PARAMETERS, authorization_parameters, read_authorization_response
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import (
    AuthorizationDeniedError,
    FlowError,
    InvalidRequestError,
    IssuerMismatchError,
    MalformedResponseError,
)
from oauthflow.protocol.secret import Secret
from tests.requirements import requirement

ISSUER = "https://as.example.com/tenant-1"
NEAR_MISSES = {
    "slash": "https://as.example.com/tenant-1/",
    "case of the host": "https://AS.example.com/tenant-1",
    "case of the scheme": "HTTPS://as.example.com/tenant-1",
    "case of the path": "https://as.example.com/Tenant-1",
    "port": "https://as.example.com:443/tenant-1",
    "%2F": "https://as.example.com%2Ftenant-1",
    "percent-encoded letter": "https://as.example.com/%74enant-1",
    "path": "https://as.example.com",
    "other tenant": "https://as.example.com/tenant-2",
    "plain http": "http://as.example.com/tenant-1",
    "query": "https://as.example.com/tenant-1?",
    "fragment": "https://as.example.com/tenant-1#",
    "space": "https://as.example.com/tenant-1 ",
    "other host": "https://evil.example/tenant-1",
    "empty": "",
}


def parameters(*, scope: str = "", resource: str | None = None, extra: dict[str, str] | None = None) -> dict[str, str]:
    return authorization_parameters(
        client_id="client-1",
        redirect_uri="https://broker.example/api/v1/oauth/callback",
        state=Secret("the-state"),
        code_challenge="the-challenge",
        scope=scope,
        resource=resource,
        extra=extra or {},
    )


@requirement("A-02", "A-03", "A-09", "A-16")
def test_the_request_carries_state_redirect_uri_and_an_s256_challenge() -> None:
    assert parameters() == {
        "response_type": "code",
        "client_id": "client-1",
        "redirect_uri": "https://broker.example/api/v1/oauth/callback",
        "state": "the-state",
        "code_challenge": "the-challenge",
        "code_challenge_method": "S256",
    }


@requirement("A-06", "A-08")
@pytest.mark.parametrize("resource", ["https://mcp.example.com", "https://MCP.example.com:443/mcp/", "https://a/%7Eb"])
def test_the_resource_is_sent_character_by_character(resource: str) -> None:
    assert parameters(resource=resource)["resource"] == resource


@requirement("S-03")
def test_a_scope_is_sent_when_there_is_one_and_left_out_when_not() -> None:
    assert parameters(scope="mcp:read mcp:write")["scope"] == "mcp:read mcp:write"
    assert "scope" not in parameters(scope="")


@requirement("S-12")
def test_offline_access_is_asked_for_with_consent_unless_the_profile_says_otherwise() -> None:
    assert parameters(scope="mcp:read offline_access")["prompt"] == "consent"
    assert "prompt" not in parameters(scope="mcp:read")
    assert parameters(scope="offline_access", extra={"prompt": "select_account"})["prompt"] == "select_account"


def test_a_provider_profile_adds_its_parameters() -> None:
    sent = parameters(extra={"prompt": "consent", "access_type": "offline", "audience": "https://api.example.com"})
    assert (sent["prompt"], sent["access_type"], sent["audience"]) == ("consent", "offline", "https://api.example.com")
    assert sent["client_id"] == "client-1"


@pytest.mark.parametrize("name", sorted(RESERVED_PARAMETERS))
def test_a_provider_profile_cannot_set_what_is_ours(name: str) -> None:
    with pytest.raises(InvalidRequestError):
        parameters(extra={name: "evil"})


@requirement("A-13")
@pytest.mark.parametrize(
    ("iss_required", "params"),
    [
        (True, {"code": "the-code", "iss": ISSUER}),
        (False, {"code": "the-code", "iss": ISSUER}),
        (False, {"code": "the-code"}),
    ],
    ids=["promised and the same", "not promised and the same", "not promised and absent"],
)
def test_a_code_of_the_right_issuer_is_validated(iss_required: bool, params: dict[str, str]) -> None:
    validated = read_authorization_response(params, issuer=ISSUER, iss_required=iss_required)
    assert (validated.code.reveal(), validated.issuer) == ("the-code", ISSUER)
    assert "the-code" not in repr(validated)


@requirement("A-13")
def test_a_promised_iss_that_is_missing_is_refused() -> None:
    with pytest.raises(IssuerMismatchError) as refused:
        read_authorization_response({"code": "the-code"}, issuer=ISSUER, iss_required=True)
    assert refused.value.code == Code.ISSUER_MISMATCH


@requirement("A-13", "A-14")
@pytest.mark.parametrize("iss_required", [True, False])
@pytest.mark.parametrize("iss", NEAR_MISSES.values(), ids=NEAR_MISSES.keys())
def test_an_iss_that_differs_by_any_character_is_refused(iss: str, iss_required: bool) -> None:
    with pytest.raises(IssuerMismatchError) as refused:
        read_authorization_response({"code": "the-code", "iss": iss}, issuer=ISSUER, iss_required=iss_required)
    assert refused.value.code == Code.ISSUER_MISMATCH
    assert "the-code" not in str(refused.value)


@requirement("A-14")
def test_a_recorded_issuer_with_a_slash_accepts_only_itself() -> None:
    with pytest.raises(IssuerMismatchError):
        read_authorization_response({"code": "c", "iss": ISSUER}, issuer=ISSUER + "/", iss_required=False)


@requirement("A-15")
@pytest.mark.parametrize("iss_required", [True, False])
@pytest.mark.parametrize("iss", NEAR_MISSES.values(), ids=NEAR_MISSES.keys())
def test_an_error_of_another_issuer_is_not_acted_on(iss: str, iss_required: bool) -> None:
    params = {"error": "access_denied", "error_description": "marker", "error_uri": "https://evil.example", "iss": iss}
    with pytest.raises(FlowError) as refused:
        read_authorization_response(params, issuer=ISSUER, iss_required=iss_required)
    assert isinstance(refused.value, IssuerMismatchError)
    assert not any(text in str(refused.value) for text in ("access_denied", "marker", "evil.example"))


@requirement("A-15")
def test_an_error_without_the_promised_iss_is_not_acted_on() -> None:
    with pytest.raises(IssuerMismatchError):
        read_authorization_response({"error": "access_denied"}, issuer=ISSUER, iss_required=True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("access_denied", Code.ACCESS_DENIED),
        ("invalid_request", Code.INVALID_REQUEST),
        ("unauthorized_client", Code.UNAUTHORIZED_CLIENT),
        ("unsupported_response_type", Code.UNSUPPORTED_RESPONSE_TYPE),
        ("invalid_scope", Code.INVALID_SCOPE),
        ("server_error", Code.SERVER_ERROR),
        ("temporarily_unavailable", Code.TEMPORARILY_UNAVAILABLE),
        ("invalid_target", Code.INVALID_REQUEST),
        ("login_required", Code.ACCESS_DENIED),
        ("interaction_required", Code.ACCESS_DENIED),
        ("consent_required", Code.ACCESS_DENIED),
        ("account_selection_required", Code.ACCESS_DENIED),
        ("", Code.SERVER_ERROR),
        ("Access_Denied", Code.SERVER_ERROR),
        ("invalid_grant", Code.SERVER_ERROR),
        ("issuer_changed", Code.SERVER_ERROR),
        ("<script>marker</script>", Code.SERVER_ERROR),
        ("a\r\nmarker: 1", Code.SERVER_ERROR),
        ("marker" * 10_000, Code.SERVER_ERROR),
    ],
    ids=lambda value: str(value)[:24],
)
def test_an_error_becomes_a_code_of_the_fixed_list(error: str, code: Code) -> None:
    with pytest.raises(AuthorizationDeniedError) as denied:
        read_authorization_response({"error": error, "iss": ISSUER}, issuer=ISSUER, iss_required=True)
    assert denied.value.code == code
    assert "marker" not in str(denied.value)


def test_the_description_and_the_link_of_an_error_go_nowhere() -> None:
    params = {"error": "access_denied", "error_description": "<script>marker", "error_uri": "javascript:marker"}
    with pytest.raises(AuthorizationDeniedError) as denied:
        read_authorization_response(params, issuer=ISSUER, iss_required=False)
    assert "marker" not in f"{denied.value} {denied.value.message} {denied.value.detail}"


def test_an_error_beside_a_code_is_an_error() -> None:
    with pytest.raises(AuthorizationDeniedError):
        read_authorization_response({"error": "access_denied", "code": "c"}, issuer=ISSUER, iss_required=False)


@pytest.mark.parametrize("params", [{}, {"code": ""}, {"code": "a\r\nb"}, {"code": "é"}, {"code": "c" * 4097}])
def test_a_response_without_error_and_without_a_usable_code_is_malformed(params: dict[str, str]) -> None:
    with pytest.raises(MalformedResponseError):
        read_authorization_response(params, issuer=ISSUER, iss_required=False)


@pytest.mark.parametrize("code", ["c", "4/0A Fg~", "c" * 4096])
def test_a_code_of_visible_characters_is_taken_as_it_is(code: str) -> None:
    assert read_authorization_response({"code": code}, issuer=ISSUER, iss_required=False).code.reveal() == code
