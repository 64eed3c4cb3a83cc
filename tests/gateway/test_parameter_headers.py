"""Headers for arguments of tools: which ones a tool describes, and whether they say what the body says."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from gateway.messages.parameter_headers import ParameterHeader, parameter_disagreement, parameter_headers
from tests.requirements import requirement

from .posted import Headers


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def described(name: object, kind: object = "string") -> dict[str, Any]:
    return {"type": kind, "x-mcp-header": name}


SCHEMA = schema(
    region=described("Region"), count=described("Count", "integer"), dry=described("Dry", "boolean"),
    where=schema(city=described("City")), free={"type": "string"},
)  # fmt: skip
ARGUMENTS = {"region": "eu", "count": 42, "dry": True, "where": {"city": "K\u00f6ln"}, "free": "x"}
CITY = "=?base64?" + base64.b64encode("K\u00f6ln".encode()).decode() + "?="


def test_a_schema_says_which_header_repeats_what() -> None:
    assert {(header.name, header.path) for header in parameter_headers(SCHEMA)} == {
        (b"mcp-param-region", ("region",)), (b"mcp-param-count", ("count",)),
        (b"mcp-param-dry", ("dry",)), (b"mcp-param-city", ("where", "city")),
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        None, [], "x", {"properties": []}, {"x-mcp-header": "Root", "type": "string"},
        schema(a=described("a b")), schema(a=described("")), schema(a=described(5)), schema(a=described("A", "number")),
        schema(a=described("A", ["string"])), schema(a=described("A"), b=described("a")),
        schema(good=described("Good"), bad=described("\u00e9")),
        *({**schema(good=described("Good")), keyword: described("A")} for keyword in ("items", "not", "if", "then")),
        *({**schema(good=described("Good")), keyword: [described("A")]} for keyword in ("oneOf", "anyOf", "allOf")),
        {**schema(good=described("Good")), "$defs": {"a": described("A")}},
        schema(good=described("Good"), list={"type": "array", "items": schema(a=described("A"))}),
    ],
)  # fmt: skip
def test_a_schema_that_describes_wrongly_describes_nothing(wrong: Any) -> None:
    assert parameter_headers(wrong) == ()


def test_what_only_looks_like_a_description_is_none() -> None:
    named = schema(
        **{"x-mcp-header": {"type": "string"}}, region={**described("Region"), "default": {"x-mcp-header": 1}}
    )
    assert parameter_headers(named) == (ParameterHeader(b"mcp-param-region", ("region",)),)


ALL = (("Mcp-Param-Region", "eu"), ("Mcp-Param-Count", "42"), ("Mcp-Param-Dry", "true"), ("Mcp-Param-City", CITY))


def sent(*headers: tuple[str, str]) -> Headers:
    """Return all headers that the tool describes, some of them with other values."""
    other = {name.lower() for name, _ in headers}
    return Headers(*headers, *((name, value) for name, value in ALL if name.lower() not in other))


@requirement("G-06", "G-07", "G10")
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Mcp-Param-Region", "=?base64?ZXU=?="), ("Mcp-Param-Count", "42.0")),
        (("Mcp-Param-Other", "anything"), ("Mcp-Param-Other", "=?base64?!?=")),
    ],
)
def test_headers_that_agree_or_that_nobody_described_pass(headers: tuple[tuple[str, str], ...]) -> None:
    assert parameter_disagreement(sent(*headers), [parameter_headers(SCHEMA)], ARGUMENTS) == ""


@requirement("G-07", "G10")
@pytest.mark.parametrize(
    "header",
    [
        ("Mcp-Param-Region", "us"), ("Mcp-Param-Region", "EU"), ("Mcp-Param-Region", ""),
        ("Mcp-Param-Region", "=?base64?ZXU?="), ("Mcp-Param-Count", "43"), ("Mcp-Param-Count", "42.5"),
        ("Mcp-Param-Count", "4.2e1"), ("Mcp-Param-Count", "x"), ("Mcp-Param-Dry", "True"), ("Mcp-Param-Dry", "1"),
        ("Mcp-Param-City", "Koeln"), ("MCP-PARAM-CITY", "K\u00f6ln"),
    ],
)  # fmt: skip
def test_headers_that_say_something_else_are_found(header: tuple[str, str]) -> None:
    assert "differs" in parameter_disagreement(sent(header), [parameter_headers(SCHEMA)], ARGUMENTS)


@requirement("G-07", "G10")
@pytest.mark.parametrize("missing", [name for name, _ in ALL])
def test_headers_whose_argument_is_there_are_missed(missing: str) -> None:
    headers = Headers(*((name, value) for name, value in ALL if name != missing))
    problem = parameter_disagreement(headers, [parameter_headers(SCHEMA)], ARGUMENTS)
    assert problem == f"The header {missing.lower()} is missing."


@requirement("G-07")
@pytest.mark.parametrize("arguments", [None, {}, [], {"region": None, "where": {}}, {"region": ["eu"], "where": "x"}])
def test_no_header_is_missed_where_the_body_has_nothing_for_it(arguments: Any) -> None:
    assert parameter_disagreement(Headers(), [parameter_headers(SCHEMA)], arguments) == ""


@requirement("G-07")
def test_numbers_that_no_header_may_say_are_not_missed() -> None:
    wordings = [parameter_headers(schema(count=described("Count", "integer")))]
    for number in (2**53, -(2**53), 10**400, 1e21, 4.5):
        assert parameter_disagreement(Headers(), wordings, {"count": number}) == ""
    for number in (2**53 - 1, 1 - 2**53, 42.0, 0, True):
        assert "missing" in parameter_disagreement(Headers(), wordings, {"count": number})


@requirement("G-07")
def test_of_a_tool_with_several_descriptions_one_has_to_fit() -> None:
    first = parameter_headers(schema(region=described("Region")))
    second = parameter_headers(schema(place=described("Region")))
    arguments, says = {"region": "eu", "place": "us"}, lambda value: Headers(("Mcp-Param-Region", value))
    assert parameter_disagreement(says("eu"), [first, second], arguments) == ""
    assert parameter_disagreement(says("us"), [first, second], arguments) == ""
    assert "differs" in parameter_disagreement(says("cn"), [first, second], arguments)
    assert "missing" in parameter_disagreement(Headers(), [first, second], arguments)
    assert parameter_disagreement(Headers(), [first, second, ()], arguments) == ""
    assert "differs" in parameter_disagreement(says("cn"), [first, second, ()], arguments)


@pytest.mark.parametrize("arguments", [None, {}, [], {"region": None}, {"region": ["eu"]}, {"region": {"a": 1}}])
def test_a_header_about_what_the_body_does_not_say_is_found(arguments: Any) -> None:
    headers = Headers(("Mcp-Param-Region", "eu"))
    assert "differs" in parameter_disagreement(headers, [parameter_headers(SCHEMA)], arguments)


def test_a_header_that_stands_twice_is_found() -> None:
    headers = Headers(("Mcp-Param-Region", "eu"), ("Mcp-Param-Region", "eu"))
    assert "more than once" in parameter_disagreement(headers, [parameter_headers(SCHEMA)], ARGUMENTS)
