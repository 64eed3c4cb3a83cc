"""SQLite and several machines: refused where it can be seen, said where it may be meant. F25."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.core.management import call_command
from pytest_django import Settings

from mcp_oauth_site import one_machine
from mcp_oauth_site.management.commands import up
from tests.faults import fault
from tests.product import free_port

_MOUNTS = """
overlay / overlay rw 0 0
server:/export /srv/with\\040space nfs4 rw 0 0
/dev/sdb1 /srv/with\\040space/local ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/site.sqlite3", "overlay"),
        ("/srv/with space/site.sqlite3", "nfs4"),
        ("/srv/with space/local/site.sqlite3", "ext4"),
        ("/srv/with spaces/site.sqlite3", "overlay"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert one_machine.file_system_of(Path(path), mounts=_MOUNTS.strip()) == kind


@fault("F25")
@pytest.mark.parametrize(
    ("engine", "name", "count"),
    [
        ("sqlite3", "/srv/with space/site.sqlite3", 1),
        ("sqlite3", "/var/site.sqlite3", 0),
        ("postgresql", "/srv/with space/site.sqlite3", 0),
    ],
)
def test_a_sqlite_file_that_several_machines_can_reach_is_refused(
    engine: str, name: str, count: int, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(_MOUNTS.strip())
    monkeypatch.setattr(one_machine, "_MOUNTS", mounts)
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", f"django.db.backends.{engine}")
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", name)
    found = one_machine.check_file_is_local()
    assert [message.id for message in found] == ["site.E001"] * count
    assert all("PostgreSQL" in str(message.hint) for message in found)


@pytest.mark.parametrize(("only", "is_said"), [("worker", True), (None, False)])
def test_who_runs_one_role_on_sqlite_is_told_that_other_machines_have_no_part_in_it(
    only: str | None, is_said: bool, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    monkeypatch.setattr(up, "prepare_site", _stop)
    monkeypatch.setattr(up, "_follow_port", lambda port: None)
    said = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        call_command("up", only=only, port=free_port(), stderr=said, stdout=io.StringIO())
    assert ("DATABASE_URL" in said.getvalue()) is is_said


def _stop() -> None:
    raise KeyboardInterrupt
