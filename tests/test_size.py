"""Files and functions stay small, without waivers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("mcp_oauth_site", "gateway", "authserver", "oauthflow", "connections", "audit", "examples", "tests")
LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60
CATCH_ALLS = {"utils", "helpers", "common", "managers", "base"}
WAIVERS = re.compile(
    r"#\s*(?:noqa|type:\s*ignore|pragma:\s*no cover|pylint|mypy:)|\b(?:TODO|FIXME|NotImplementedError)\b"
)


def _modules() -> Iterator[Path]:
    yield ROOT / "manage.py"
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            if "migrations" not in path.parts and "node_modules" not in path.parts:
                yield path


def test_no_file_is_longer_than_400_lines() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in _modules()}
    assert {name: lines for name, lines in sizes.items() if lines > LINES_OF_A_FILE} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    long = {}
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LINES_OF_A_FUNCTION:
                    long[f"{path.relative_to(ROOT)}:{node.name}"] = lines
    assert long == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [str(path.relative_to(ROOT)) for path in _modules() if path.stem in CATCH_ALLS] == []


def test_nothing_is_waived_or_left_for_later() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _modules()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if WAIVERS.search(line)
    ]
    assert found == []


def test_the_lock_files_name_no_index() -> None:
    named = re.compile(r"^\s*(?:--|-i\b|-f\b|.*https?://)", re.MULTILINE)
    for path in ROOT.glob("requirements*.lock"):
        lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith(("--hash=", "#"))]
        assert [line for line in lines if named.match(line)] == []
