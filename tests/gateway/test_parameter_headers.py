"""Headers for arguments of tools: which ones a tool describes, and whether they say what the body says."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from gateway.messages.parameter_headers import parameter_disagreement, parameter_headers
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
    ],
)  # fmt: skip
def test_a_schema_that_describes_wrongly_describes_nothing(wrong: Any) -> None:
    assert parameter_headers(wrong) == ()


@requirement("G-06", "G-07", "G10")
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Mcp-Param-Region", "eu"), ("Mcp-Param-Count", "42"), ("Mcp-Param-Dry", "true"), ("Mcp-Param-City", CITY)),
        (("Mcp-Param-Region", "=?base64?ZXU=?="), ("Mcp-Param-Count", "42.0")),
        (("Mcp-Param-Other", "anything"), ("Mcp-Param-Other", "=?base64?!?=")),
    ],
)
def test_headers_that_agree_or_that_nobody_described_pass(headers: tuple[tuple[str, str], ...]) -> None:
    assert parameter_disagreement(Headers(*headers), parameter_headers(SCHEMA), ARGUMENTS) == ""


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
    assert parameter_disagreement(Headers(header), parameter_headers(SCHEMA), ARGUMENTS) != ""


@pytest.mark.parametrize("arguments", [None, {}, [], {"region": None}, {"region": ["eu"]}, {"region": {"a": 1}}])
def test_a_header_about_what_the_body_does_not_say_is_found(arguments: Any) -> None:
    headers = Headers(("Mcp-Param-Region", "eu"))
    assert parameter_disagreement(headers, parameter_headers(SCHEMA), arguments) != ""


def test_a_header_that_stands_twice_is_found() -> None:
    headers = Headers(("Mcp-Param-Region", "eu"), ("Mcp-Param-Region", "eu"))
    assert parameter_disagreement(headers, parameter_headers(SCHEMA), ARGUMENTS) != ""
