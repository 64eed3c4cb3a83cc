"""The manifest and the tests agree, in both directions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requirements import PAGES, REQUIREMENTS, requirement

TESTS = Path(__file__).parent


def marked_ids(source: str) -> Iterator[str]:
    """Yield the ids of every `requirement(…)` call in a source text: decorators, `pytestmark`, `pytest.param`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _is_requirement(node.func):
            for argument in node.args:
                yield str(argument.value) if isinstance(argument, ast.Constant) else ast.unparse(argument)


def _is_requirement(function: ast.expr) -> bool:
    return isinstance(function, ast.Name) and function.id == "requirement"


def _ids_by_file() -> dict[str, set[str]]:
    found = {}
    for path in TESTS.rglob("*.py"):
        name = path.relative_to(TESTS)
        # What npm installs for the tests of other people's servers brings Python files of its own.
        if "node_modules" not in name.parts and path != Path(__file__):
            found[str(name)] = set(marked_ids(path.read_text(encoding="utf-8")))
    return found


def test_every_requirement_has_a_test() -> None:
    proved = set().union(*_ids_by_file().values())
    wanted = {name for name, entry in REQUIREMENTS.items() if not entry.untestable}
    assert sorted(wanted - proved) == []


def test_every_marked_id_is_in_the_manifest() -> None:
    unknown = {file: ids - REQUIREMENTS.keys() for file, ids in _ids_by_file().items() if ids - REQUIREMENTS.keys()}
    assert unknown == {}


def test_every_entry_names_a_page_and_says_something() -> None:
    assert [name for name, entry in REQUIREMENTS.items() if entry.page not in PAGES or not entry.sentence] == []


def test_an_unknown_id_is_refused_by_the_marker() -> None:
    with pytest.raises(ValueError, match="Q-99"):
        requirement(*["D-01", "Q-99"])


def test_a_marker_without_an_id_is_refused() -> None:
    with pytest.raises(ValueError, match="no id given"):
        requirement(*[])


def test_the_scan_finds_decorators_and_parameters_alike() -> None:
    source = '@requirement("A-13", "A-14")\ndef test_x(): ...\nparams = [param(1, marks=requirement("D-05"))]\n'
    assert sorted(marked_ids(source)) == ["A-13", "A-14", "D-05"]
