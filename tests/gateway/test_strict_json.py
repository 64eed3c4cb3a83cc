"""Bodies that parsers could read differently are refused; all others keep their meaning. A6 G10."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.messages import RefusedMessageError
from gateway.messages.strict_json import read_json
from tests.requirements import requirement

from .posted import read, refusal

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@requirement("G10")
@given(VALUES)
def test_what_is_forwarded_means_what_was_read(value: Any) -> None:
    for is_ascii in (True, False):
        read_value, written = read_json(json.dumps(value, ensure_ascii=is_ascii).encode())
        assert read_value == value
        assert json.loads(written) == value
        assert json.dumps(json.loads(written)) == json.dumps(value)  # also -0.0, and the order of names


@given(st.binary(max_size=200))
def test_no_body_raises_anything_else(body: bytes) -> None:
    try:
        value, written = read_json(body)
    except RefusedMessageError:
        return
    assert json.loads(written) == value


@pytest.mark.parametrize(
    "text",
    ["123456789012345678901234567890", '"\\ud83d\\ude00"', '"\\u0000\\u2028"', "1e300", "-0.0", '"\U0001f600"', "[]"],
)
def test_numbers_and_text_survive(text: str) -> None:
    assert json.loads(read_json(text.encode())[1]) == json.loads(text)


@requirement("G10")
@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b'{"a":1}{"b":2}', b"{'a':1}", b'{"a":1,}', b"// a\n{}", b"nul",
        b"NaN", b"Infinity", b"-Infinity", b"1e400", b"[-1e999]", b"9" * 5000,
        b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', '{"a":1}'.encode("utf-16"), b"\xef\xbb\xbf{}",
        b'"\\ud800"', b'{"\\udc00":1}', b'"\\udc00\\ud800"', b'"a\nb"', b"\x00",
    ],
)  # fmt: skip
def test_what_is_not_strict_json_cannot_be_parsed(body: bytes) -> None:
    error = refusal(body)
    assert (error.status, error.code, error.id) == (400, -32700, None)
    assert error.__context__ is None


@requirement("G10")
@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"name":"a","n\\u0061me":"b"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":[{"y":1,"y":1}]}}',
    ],
)
def test_a_name_occurs_once(body: bytes) -> None:
    assert refusal(body).code == -32600


@requirement("G10")
def test_nesting_is_bounded() -> None:
    def nested(depth: int, opening: str, closing: str) -> bytes:
        inner = opening * (depth - 1) + closing * (depth - 1)
        return b'{"jsonrpc":"2.0","id":1,"method":"a","y":[],"x":' + inner.encode() + b"}"

    for opening, closing in (("[", "]"), ('{"a":', "}")):
        flat = nested(50, opening, closing).replace(b":}", b":1}")
        assert read(flat).method == "a"
        assert refusal(nested(51, opening, closing).replace(b":}", b":1}")).code == -32600
        assert refusal(nested(100_000, opening, closing).replace(b":}", b":1}")).code == -32600
    wide = b'{"jsonrpc":"2.0","id":1,"method":"a","x":[' + b"{}," * 200 + b"{}]}"
    assert read(wide).method == "a"
