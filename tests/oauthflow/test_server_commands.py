"""`manage.py servers`: check, import and export at the terminal."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from connections.models import McpServer
from tests.fakes.world import World

from .test_commands import refused, run


def test_a_server_is_checked_with_every_step_and_a_verdict(world: World) -> None:
    world.server()
    said = run("servers", "check", "notes")
    assert "https://mcp.example/mcp" in said
    assert "People can connect." in said
    assert said.splitlines()[0].split() == ["STEP", "URL", "STATUS", "MS", "VERDICT"]


def test_a_check_that_fails_prints_the_steps_and_ends_with_1(world: World) -> None:
    world.server()
    world.authorization_server.advertises_pkce = False
    code, sentence, said = refused("servers", "check", "notes")
    assert code == 1
    assert "PKCE" in sentence
    assert "https://as.example" in said
    assert refused("servers", "check", "nope")[1] == "There is no server 'nope'."


def test_what_fits_is_imported_and_the_rest_is_named(db: None, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    good = {f"s{number}": {"url": f"https://s{number}.example/mcp"} for number in range(9)}
    file.write_text(json.dumps({"mcpServers": {**good, "bad": {"url": "ftp://bad.example/mcp"}}}))
    assert "would be created" in refused("servers", "import", str(file), "--dry-run")[2]
    assert McpServer.objects.count() == 0
    code, sentence, said = refused("servers", "import", str(file))
    assert (code, sentence) == (1, "1 entry was not taken over; the others were.")
    assert "REFUSED" in said
    assert McpServer.objects.count() == 9
    assert "skipped" in refused("servers", "import", str(file))[2]


def test_what_is_exported_can_be_imported(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world.server()
    for kind in ("yaml", "mcpServers", "vscode", "server.json"):
        file = tmp_path / kind
        file.write_text(run("servers", "export", "--format", kind))
        McpServer.objects.all().delete()
        assert "created" in run("servers", "import", str(file))
        assert McpServer.objects.get().url == "https://mcp.example/mcp"


def test_a_file_that_is_none_is_told_in_one_sentence(db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary, huge, odd = tmp_path / "binary", tmp_path / "huge", tmp_path / "odd"
    binary.write_bytes(b"\xff\xfe\x00")
    huge.write_text(" " * (6 * 1024 * 1024))
    odd.write_text('{"nothing": 1}')
    for path in (tmp_path / "missing", tmp_path, binary, huge, odd):
        assert refused("servers", "import", str(path))[0] == 1
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"mcpServers": {"a": {"url": "https://a.example"}}}'))
    )
    assert "created" in run("servers", "import", "-")
