import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauthflow.protocol.errors import MalformedResponseError
from oauthflow.protocol.json_documents import read_json_object
from oauthflow.protocol.messages import Response

JSON = {"content-type": "application/json"}


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/oauth-authz-req+json",
        "application/json ;x=y",
    ],
)
def test_an_object_is_read_from_any_json_content_type(content_type: str) -> None:
    response = Response(200, headers={"content-type": content_type}, body=b'{"issuer": "https://as.example"}')
    assert read_json_object(response) == {"issuer": "https://as.example"}


@pytest.mark.parametrize("content_type", ["", "text/html", "text/json", "application/jsonp", "text/x+json", "json"])
def test_another_content_type_is_refused(content_type: str) -> None:
    with pytest.raises(MalformedResponseError):
        read_json_object(Response(200, headers={"content-type": content_type}, body=b"{}"))


def test_an_absent_content_type_is_refused() -> None:
    with pytest.raises(MalformedResponseError):
        read_json_object(Response(200, body=b"{}"))


def test_the_status_does_not_matter() -> None:
    assert read_json_object(Response(400, headers=JSON, body=b'{"error":"x"}')) == {"error": "x"}


def test_a_byte_order_mark_is_passed_over() -> None:
    assert read_json_object(Response(200, headers=JSON, body=b'\xef\xbb\xbf{"a":1}')) == {"a": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b'{"a":1}x',
        b"<html></html>",
        b'{"a":"\xff"}',
        b'{"issuer":"good","issuer":"evil"}',
        b'{"a":[{"b":1,"b":1}]}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\\u0000"}',
        b'{"\\u0000":1}',
        b'{"a":["\\ud800"]}',
        nested(21),
        b'{"a":' * 100_000,
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_a_body_that_is_not_one_plain_object_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedResponseError):
        read_json_object(Response(200, headers=JSON, body=body))


def test_a_finite_fraction_is_read() -> None:
    assert read_json_object(Response(200, headers=JSON, body=b'{"a":1.5e3}')) == {"a": 1500.0}


def test_twenty_levels_are_read_and_text_in_the_last_one_is_checked() -> None:
    assert read_json_object(Response(200, headers=JSON, body=nested(20)))
    with pytest.raises(MalformedResponseError):
        read_json_object(Response(200, headers=JSON, body=b'{"a":"\\u0000"}'), max_depth=1)


def test_the_error_quotes_nothing_of_the_body() -> None:
    with pytest.raises(MalformedResponseError) as caught:
        read_json_object(Response(200, headers=JSON, body=b'{"access_token":"marker-4711", NaN'))
    assert "marker-4711" not in f"{caught.value} {caught.value.detail} {caught.value.__cause__!r}"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abcdef", min_size=1), VALUES, max_size=4))
def test_every_shallow_object_comes_back_unchanged(document: dict[str, object]) -> None:
    body = json.dumps(document).encode()
    assert read_json_object(Response(200, headers=JSON, body=body), max_depth=40) == document


@given(st.binary(max_size=200))
def test_any_bytes_give_an_object_or_the_one_error(body: bytes) -> None:
    try:
        assert isinstance(read_json_object(Response(200, headers=JSON, body=body)), dict)
    except MalformedResponseError:
        return
