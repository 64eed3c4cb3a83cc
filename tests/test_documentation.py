"""The documentation names what there is: files, settings, codes, commands, scopes, dependencies."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest

from audit.events import AuditEvent
from connections.models.api_token import ApiScope
from connections.profiles import PROFILES
from oauthflow.protocol.codes import SENTENCES, Code

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]

_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+\s+(.+)$", re.MULTILINE)
_SETTING = re.compile(r"""(?:environment\.\w+|\bvalue)\(\s*"([A-Z_]+)\"""")


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def commands() -> list[str]:
    """Our own management commands."""
    found = ROOT.glob("*/management/commands/*.py")
    return sorted(path.stem for path in found if not path.stem.startswith("_"))


def settings_read() -> set[str]:
    sources = [ROOT / "mcp_oauth_site" / name for name in ("settings.py", "keys.py")]
    return {name for source in sources for name in _SETTING.findall(source.read_text(encoding="utf-8"))}


def anchors(page: Path) -> set[str]:
    """The anchors that a heading gets where Markdown is shown: lower case, spaces as hyphens, the rest left out."""
    headings = _HEADING.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_and_image_of_a_page_exists(page: Path) -> None:
    missing = []
    for target in _LINK.findall(_FENCED.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / unquote(path)).resolve() if path else page
        if not file.exists() or (fragment and fragment not in anchors(file)):
            missing.append(target)
    assert missing == []


def test_every_image_is_shown_somewhere() -> None:
    shown = {Path(target).name for page in PAGES for target in _LINK.findall(page.read_text(encoding="utf-8"))}
    assert {path.name for path in (DOCS / "images").iterdir()} <= shown


def test_every_page_of_the_documentation_is_in_its_index() -> None:
    listed = set(_LINK.findall(text_of("README.md")))
    assert {path.name for path in DOCS.glob("*.md")} - {"README.md"} <= listed


def test_every_setting_is_described_for_operators() -> None:
    settings = settings_read()
    assert {"PUBLIC_URL", "SECRET_KEY", "AUDIT_KEYS", "EGRESS_ALLOW", "DATABASE_URL"} <= settings
    described = text_of("operators.md")
    assert [name for name in sorted(settings) if f"| `{name}` |" not in described] == []


def test_every_code_is_described_with_its_sentence_and_what_may_be_done() -> None:
    rows = {line.split("|")[1].strip(): line for line in text_of("client-developers.md").splitlines() if "|" in line}
    wrong = []
    for code in Code:
        cells = [cell.strip() for cell in rows.get(f"`{code}`", "").split("|")]
        said = SENTENCES[code]
        flags = ["yes" if said.retryable else "", "yes" if said.requires_reauthorization else ""]
        if len(cells) != 7 or not cells[3].startswith(said.message) or cells[4:6] != flags:
            wrong.append(str(code))
    assert wrong == []


def test_operators_find_every_code_when_they_look_for_trouble() -> None:
    trouble = text_of("operators.md").partition("## Troubleshooting by code")[2]
    assert [str(code) for code in Code if f"`{code}`" not in trouble] == []


def test_every_command_is_named_for_operators() -> None:
    named = text_of("operators.md")
    assert "servers" in commands()
    assert [name for name in commands() if not re.search(rf"`(?:manage\.py )?{name}\b", named)] == []


@pytest.mark.parametrize("page", ["users.md", "client-developers.md"])
def test_every_scope_is_described(page: str) -> None:
    described = text_of(page)
    assert [scope.value for scope in ApiScope if f"| `{scope.value}` |" not in described] == []


def test_every_provider_profile_is_described_for_administrators() -> None:
    described = text_of("administrators.md")
    assert [key for key in PROFILES if f"`{key}`" not in described] == []


def test_every_audit_event_is_described_for_administrators() -> None:
    described = text_of("administrators.md")
    assert [event for event in AuditEvent.values if f"`{event}`" not in described] == []


def test_every_direct_dependency_has_an_entry() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"].get("optional-dependencies", {})
    groups = [project["project"]["dependencies"], *extras.values(), *project["dependency-groups"].values()]
    npm = json.loads((ROOT / "tests" / "npm" / "package.json").read_text(encoding="utf-8"))
    names = {re.split(r"[\[<>=,\s]", wanted)[0] for group in groups for wanted in group}
    names |= {*npm["dependencies"], *npm["optionalDependencies"]}
    described = text_of("dependencies.md")
    assert [name for name in sorted(names) if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", described)] == []


def test_every_version_in_the_table_of_dependencies_is_the_locked_one() -> None:
    locked = dict(re.findall(r"^([\w.-]+)==([^\s\\]+)", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE))
    rows = re.findall(r"^\| ([\w-]+)(?:\[[^\]]*\])? \| (\d[\d.]*) \|", text_of("dependencies.md"), re.MULTILINE)
    assert len(rows) > 30
    assert [(name, version) for name, version in rows if locked.get(name) != version] == []
