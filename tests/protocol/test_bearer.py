import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauthflow.protocol.bearer import BearerChallenge, bearer_challenge, format_challenge, parse_challenges
from tests.requirements import requirement

URL = "https://mcp.example/.well-known/oauth-protected-resource/mcp"
PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)


@requirement("D-06")
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Bearer", BearerChallenge()),
        ('Bearer realm="mcp"', BearerChallenge()),
        (f'Bearer resource_metadata="{URL}"', BearerChallenge(resource_metadata=URL)),
        (f"Bearer resource_metadata={URL}?a=b", BearerChallenge(resource_metadata=f"{URL}?a=b")),
        ('Bearer error="insufficient_scope", scope="a b"', BearerChallenge(error="insufficient_scope", scope="a b")),
        ("bearer ERROR=invalid_token", BearerChallenge(error="invalid_token")),
        ('BEARER error = "x" ,, scope="s"', BearerChallenge(error="x", scope="s")),
        ('Bearer error="x" scope="s"', BearerChallenge(error="x", scope="s")),
        (r'Bearer error_description="say \"no\" \\ yes"', BearerChallenge(error_description='say "no" \\ yes')),
        ('Bearer error_description="a, Basic b=c"', BearerChallenge(error_description="a, Basic b=c")),
        ('Bearer scope=""', BearerChallenge(scope="")),
        ('Bearer scope="first", scope="second"', BearerChallenge(scope="first")),
        ('Bearer scope="never closed', BearerChallenge(scope="never closed")),
        ('Bearer junk, error="x"', BearerChallenge(error="x")),
        ('Bearer ;;, error="x"', BearerChallenge(error="x")),
        ('Bearer error_description="a\r\nX: y\x1b[1mé"', BearerChallenge(error_description="aX: y[1m")),
        (", ,Bearer error=x", BearerChallenge(error="x")),
    ],
)
def test_a_bearer_challenge_is_read(header: str, expected: BearerChallenge) -> None:
    assert bearer_challenge(header) == expected


@requirement("D-06")
@pytest.mark.parametrize(
    "header",
    [
        'Basic realm="a, Bearer b", Bearer error="x"',
        'Bearer error="x", Basic realm="a"',
        "Negotiate, Bearer error=x",
        "Negotiate YWJj==, Bearer error=x",
        'DPoP algs="ES256", Bearer error="x"',
        'Bearer, Bearer error="x"',
    ],
)
def test_the_bearer_challenge_is_found_among_others(header: str) -> None:
    assert bearer_challenge(header) == BearerChallenge(error="x")


def test_parameters_stay_with_their_scheme() -> None:
    schemes = [(one.scheme, one.error) for one in parse_challenges('Basic error="b", bearer realm="r", dpop error="d"')]
    assert schemes == [("Basic", "b"), ("Bearer", None), ("DPoP", "d")]


def test_a_dpop_challenge_counts_where_there_is_no_bearer_one() -> None:
    assert bearer_challenge('Basic realm="a", dpop error="use_dpop_nonce"') == BearerChallenge(
        error="use_dpop_nonce", scheme="DPoP"
    )


@pytest.mark.parametrize("header", ["", ",", "Basic realm=x", 'error="x"', '"', "=", "Bearer=x", "\x00"])
def test_a_header_without_a_challenge_for_us_gives_none(header: str) -> None:
    assert bearer_challenge(header) is None


def test_a_challenge_is_written_with_its_quotes_escaped_and_without_line_breaks() -> None:
    challenge = BearerChallenge(error="invalid_token", error_description='a "b" \\\r\nX: y', resource_metadata=URL)
    assert format_challenge(challenge) == (
        f'Bearer error="invalid_token", error_description="a \\"b\\" \\\\X: y", resource_metadata="{URL}"'
    )
    assert format_challenge(BearerChallenge()) == "Bearer"


@pytest.mark.parametrize(
    "header",
    [
        "," * 100_000,
        "a," * 50_000,
        "a " * 50_000,
        'Bearer a="' + "\\" * 100_000,
        "Bearer" + " " * 100_000 + "=",
        "a=" * 50_000,
    ],
)
def test_of_a_hostile_header_only_the_beginning_is_read(header: str) -> None:
    assert parse_challenges(header) == parse_challenges(header[:16_384])
    assert len(parse_challenges(header)) <= 8_192


@given(
    st.builds(
        BearerChallenge,
        error=st.none() | PRINTABLE,
        error_description=st.none() | PRINTABLE,
        scope=st.none() | PRINTABLE,
        resource_metadata=st.none() | PRINTABLE,
        scheme=st.sampled_from(["Bearer", "DPoP"]),
    )
)
def test_writing_and_reading_a_challenge_gives_the_same(challenge: BearerChallenge) -> None:
    assert parse_challenges(format_challenge(challenge)) == [challenge]
    assert parse_challenges(f'Basic realm="x, y", {format_challenge(challenge)}, Other')[1] == challenge


@given(st.text(max_size=100) | st.text('Bearer="\\, abc', max_size=100))
def test_no_header_raises_and_no_value_holds_a_control_character(header: str) -> None:
    for challenge in parse_challenges(header):
        values = [challenge.error, challenge.error_description, challenge.scope, challenge.resource_metadata]
        assert all(value.isascii() and value.isprintable() for value in values if value)
