"""The fault manifest, the marked tests and the table in docs/reliability.md agree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import FAULTS, fault

TESTS = Path(__file__).parent
ROW = re.compile(r"^\| (F\d\d) \|.*\| ([^|]+) \|$", re.MULTILINE)


def marked(source: str) -> Iterator[str]:
    """Yield the ids of every `fault(…)` call in a source text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fault":
            yield from (ast.literal_eval(argument) for argument in node.args if isinstance(argument, ast.Constant))


def marked_files() -> dict[str, set[str]]:
    """The files of the tests of each fault, as paths from the root."""
    found: dict[str, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        if "node_modules" not in path.parts and path != Path(__file__):
            for one in marked(path.read_text(encoding="utf-8")):
                found.setdefault(one, set()).add(str(path.relative_to(TESTS.parent)))
    return found


def test_every_fault_has_a_test_or_a_reason_and_not_both() -> None:
    reasoned = {name for name, entry in FAULTS.items() if entry.untested}
    assert sorted(FAULTS.keys() - marked_files().keys()) == sorted(reasoned)


def test_every_marked_fault_is_in_the_manifest() -> None:
    assert sorted(marked_files().keys() - FAULTS.keys()) == []


def test_the_documentation_names_a_test_of_every_fault() -> None:
    rows = ROW.findall((TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8"))
    files = marked_files()
    assert [name for name, _ in rows] == sorted(FAULTS)
    named = {name: set(re.findall(r"`([^`]+)`", shown)) for name, shown in rows}
    assert {name for name, paths in named.items() if paths} == files.keys()
    assert {name: paths - files[name] for name, paths in named.items() if paths - files.get(name, set())} == {}


def test_an_unknown_fault_is_refused_by_the_marker() -> None:
    with pytest.raises(ValueError, match="F99"):
        fault(*["F01", "F99"])


def test_the_scan_finds_decorators_and_parameters_alike() -> None:
    source = '@fault("F03", "F04")\ndef test_x(): ...\nparams = [param(1, marks=fault("F05"))]\n'
    assert sorted(marked(source)) == ["F03", "F04", "F05"]
