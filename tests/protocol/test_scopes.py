import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import InvalidRequestError
from oauthflow.protocol.scopes import format_scope, initial_scopes, parse_scope, step_up_scopes
from tests.requirements import requirement

TOKEN = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1, max_size=8)


def first_choice(
    *,
    configured: str = "",
    challenge: str | None = None,
    resource: list[str] | None = None,
    server: list[str] | None = None,
    want_offline: bool = True,
) -> str:
    return initial_scopes(
        configured=configured,
        challenge=challenge,
        scopes_supported=resource,
        as_scopes_supported=server,
        want_offline=want_offline,
    )


def test_scopes_are_read_as_a_set_and_written_sorted() -> None:
    assert parse_scope("write  read write ") == {"read", "write"}
    assert parse_scope("") == frozenset()
    assert format_scope(["write", "read", "write"]) == "read write"
    assert format_scope([]) == ""


@pytest.mark.parametrize("text", ['re"ad', "a\\b", "a\tb", "a\nb", "é", "a\x7fb", "read\x00"])
def test_a_scope_with_a_forbidden_character_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_scope(text)
    assert caught.value.code == Code.INVALID_SCOPE


@requirement("S-02", "S-03")
def test_the_scopes_of_the_challenge_decide_whatever_the_metadata_lists() -> None:
    assert first_choice(challenge="mcp:basic", resource=["mcp:all", "other"], server=["else"]) == "mcp:basic"


@requirement("S-03")
@pytest.mark.parametrize("challenge", [None, "", " ", '"'])
def test_without_scopes_in_the_challenge_all_of_the_resource_are_asked_for(challenge: str | None) -> None:
    assert first_choice(challenge=challenge, resource=["write", "read"], server=["else"]) == "read write"


@requirement("S-03")
@pytest.mark.parametrize("resource", [None, []])
def test_without_any_scopes_none_are_asked_for(resource: list[str] | None) -> None:
    assert first_choice(resource=resource, server=["else", "offline_access"]) == ""


def test_what_an_administrator_configured_goes_first() -> None:
    assert first_choice(configured="mine", challenge="theirs", resource=["theirs"]) == "mine"


def test_a_configured_scope_with_a_quote_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        first_choice(configured='mi"ne')


def test_words_of_a_server_that_are_no_scopes_are_left_out() -> None:
    assert first_choice(challenge='read wr"ite') == "read"
    assert first_choice(resource=["read", "é", ""]) == "read"


@requirement("S-12")
def test_offline_access_is_asked_for_where_the_authorization_server_lists_it() -> None:
    assert first_choice(challenge="read", server=["read", "offline_access"]) == "offline_access read"
    assert first_choice(configured="read", server=["offline_access"]) == "offline_access read"
    assert first_choice(challenge="read", server=["offline_access"], want_offline=False) == "read"


@requirement("S-12")
@pytest.mark.parametrize("server", [None, [], ["read"]])
def test_offline_access_is_not_asked_for_where_only_the_resource_names_it(server: list[str] | None) -> None:
    assert first_choice(resource=["read", "offline_access"], server=server) == "read"
    assert first_choice(challenge="read offline_access", server=server) == "read"


def test_offline_access_that_an_administrator_configured_stays() -> None:
    assert first_choice(configured="offline_access read", server=None) == "offline_access read"


@requirement("S-08")
def test_a_step_up_asks_for_everything_asked_for_before_and_what_is_challenged() -> None:
    assert step_up_scopes(requested="a b", granted="b c", challenged='d "') == "a b c d"


@given(st.frozensets(TOKEN, max_size=5))
def test_writing_and_reading_scopes_gives_the_same_set(scopes: frozenset[str]) -> None:
    assert parse_scope(format_scope(scopes)) == scopes


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_a_step_up_gives_valid_scopes_whatever_comes_in(requested: str, granted: str, challenged: str) -> None:
    parse_scope(step_up_scopes(requested=requested, granted=granted, challenged=challenged))


@given(st.none() | st.text(max_size=30), st.none() | st.lists(st.text(max_size=10), max_size=3))
def test_a_first_choice_gives_valid_scopes_whatever_servers_say(
    challenge: str | None, listed: list[str] | None
) -> None:
    parse_scope(first_choice(challenge=challenge, resource=listed, server=listed))
