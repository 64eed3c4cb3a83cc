"""The checks of an authorization request, one by one and in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authserver.protocol.authorization_request import (
    CHECKS,
    Asked,
    CheckedRequest,
    ClientRules,
    ResourceRules,
    check_request,
    read_answerable,
    read_client_id,
)
from authserver.protocol.errors import (
    InvalidRedirectUriError,
    InvalidRequestError,
    InvalidScopeError,
    InvalidTargetError,
    OAuthError,
    UnauthorizedClientError,
    UnknownClientError,
    UnsupportedResponseTypeError,
)
from tests.requirements import requirement

URI = "https://client.example.com/cb"
CLIENT = ClientRules([URI], ["authorization_code"])
RESOURCE = ResourceRules("https://site.example/mcp/notes", frozenset({"a", "b"}), frozenset({"a"}))
PARAMETERS = {
    "client_id": ["c"],
    "redirect_uri": [URI],
    "response_type": ["code"],
    "state": ["s"],
    "code_challenge": ["c" * 43],
    "code_challenge_method": ["S256"],
    "resource": [RESOURCE.resource],
}


def _checked(
    *, client: ClientRules = CLIENT, ours: ResourceRules | None = RESOURCE, **changed: list[str]
) -> CheckedRequest:
    parameters = PARAMETERS | changed
    return check_request(Asked(parameters, client, ours), answerable=read_answerable(parameters, client=client))


def test_a_plain_request_asks_for_the_usual_scopes() -> None:
    checked = _checked()
    assert (checked.scope, checked.resource, checked.prompt) == ("a", RESOURCE.resource, "")
    assert checked.answerable.state == "s"


REFUSED = [
    ({"response_type": []}, InvalidRequestError),
    ({"response_type": [""]}, InvalidRequestError),
    ({"response_type": ["token"]}, UnsupportedResponseTypeError),
    ({"response_type": ["code token"]}, UnsupportedResponseTypeError),
    ({"response_type": ["id_token"]}, UnsupportedResponseTypeError),
    ({"response_type": ["none"]}, UnsupportedResponseTypeError),
    ({"response_type": ["CODE"]}, UnsupportedResponseTypeError),
    ({"response_type": ["code", "code"]}, InvalidRequestError),
    ({"response_mode": ["fragment"]}, InvalidRequestError),
    ({"response_mode": ["form_post"]}, InvalidRequestError),
    ({"request": ["eyJ.x.y"]}, InvalidRequestError),
    ({"request_uri": ["https://client.example.com/r"]}, InvalidRequestError),
    ({"prompt": ["none login"]}, InvalidRequestError),
    ({"prompt": ["login none"]}, InvalidRequestError),
    ({"prompt": ["create"]}, InvalidRequestError),
    ({"prompt": ["none", "none"]}, InvalidRequestError),
    ({"state": ["s", "t"]}, InvalidRequestError),
    ({"state": ["a\r\nb"]}, InvalidRequestError),
    ({"state": ["é"]}, InvalidRequestError),
    ({"state": ["s" * 2049]}, InvalidRequestError),
    ({"resource": ["https://site.example/mcp/notes"] * 2}, InvalidTargetError),
    ({"scope": ["c"]}, InvalidScopeError),
    ({"scope": ["a c"]}, InvalidScopeError),
    ({"scope": ["A"]}, InvalidScopeError),
    ({"scope": ['a"']}, InvalidScopeError),
    ({"scope": ["a\tb"]}, InvalidScopeError),
    ({"scope": ["a " * 501]}, InvalidScopeError),
    ({"scope": ["a", "b"]}, InvalidRequestError),
]


@requirement("A-01", "X-03", "AS16")
@pytest.mark.parametrize(("changed", "error"), REFUSED)
def test_a_request_out_of_line_is_refused_with_the_code_of_the_rfc(
    changed: dict[str, list[str]], error: type[OAuthError]
) -> None:
    with pytest.raises(error) as raised:
        _checked(**changed)
    assert type(raised.value) is error


@requirement("X-03", "AS05")
@pytest.mark.parametrize(
    "changed",
    [
        {"code_challenge": []},
        {"code_challenge": [""]},
        {"code_challenge": ["c" * 42]},
        {"code_challenge": ["c" * 44]},
        {"code_challenge": ["c" * 42 + "="]},
        {"code_challenge": ["c" * 42 + "+"]},
        {"code_challenge": ["c" * 43, "c" * 43]},
        {"code_challenge_method": []},
        {"code_challenge_method": ["plain"]},
        {"code_challenge_method": ["s256"]},
        {"code_challenge_method": ["S512"]},
        {"code_challenge_method": ["S256", "S256"]},
    ],
)
def test_a_request_without_a_good_s256_challenge_is_refused(changed: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidRequestError):
        _checked(**changed)


@requirement("X-05", "AS11")
def test_a_resource_that_is_not_ours_is_an_invalid_target() -> None:
    with pytest.raises(InvalidTargetError):
        _checked(ours=None)


def test_a_client_without_the_code_grant_is_told_so() -> None:
    with pytest.raises(UnauthorizedClientError):
        _checked(client=ClientRules([URI], ["client_credentials"]))


def test_a_client_limited_by_its_administrator_gets_no_further_scope() -> None:
    limited = ClientRules([URI], ["authorization_code"], frozenset({"b"}))
    assert _checked(client=limited, scope=["b"]).scope == "b"
    with pytest.raises(InvalidScopeError):
        _checked(client=limited, scope=["a"])


def test_staying_connected_is_asked_for_beside_the_usual_scopes() -> None:
    assert _checked(scope=["offline_access"]).scope == "a offline_access"
    assert _checked(scope=["offline_access b"]).scope == "b offline_access"


@requirement("A-17", "A-20", "X-09", "AS01")
@pytest.mark.parametrize("sent", [["https://evil.example/cb"], [f"{URI}/"], [URI, URI], [URI, "https://evil.example"]])
def test_trouble_with_the_redirect_uri_never_travels_in_a_redirect(sent: list[str]) -> None:
    with pytest.raises(InvalidRedirectUriError) as raised:
        read_answerable({"redirect_uri": sent}, client=CLIENT)
    assert not raised.value.redirectable


def test_the_only_redirect_uri_of_a_client_need_not_be_named() -> None:
    assert read_answerable({}, client=CLIENT).redirect_uri == URI
    with pytest.raises(InvalidRedirectUriError):
        read_answerable({}, client=ClientRules([URI, f"{URI}2"], ["authorization_code"]))


@pytest.mark.parametrize("values", [[], [""], ["a", "a"], ["a", "b"], ["é"], ["a\nb"]])
def test_a_request_without_one_client_id_is_nobodys(values: list[str]) -> None:
    with pytest.raises(UnknownClientError) as raised:
        read_client_id({"client_id": values})
    assert not raised.value.redirectable


def test_a_state_that_cannot_be_returned_is_not_returned() -> None:
    for values in (["a", "b"], ["\r\n"], ["x" * 2049]):
        assert read_answerable(PARAMETERS | {"state": values}, client=CLIENT).state is None


def test_repetition_is_judged_before_the_rest() -> None:
    assert CHECKS[0].__name__ == "no_parameter_is_repeated"
    with pytest.raises(InvalidRequestError):
        _checked(state=["a", "b"], response_type=["token"])


@given(
    st.dictionaries(
        st.sampled_from([*PARAMETERS, "scope", "prompt", "response_mode", "request", "x"]),
        st.lists(st.text(max_size=12), max_size=2),
    )
)
def test_any_parameters_end_in_a_checked_request_or_an_error_of_ours(changed: dict[str, list[str]]) -> None:
    try:
        checked = _checked(**changed)
    except OAuthError:
        return
    assert checked.scopes <= RESOURCE.scopes | {"offline_access"}
