"""Processes of the product beside the test, on the same database and with the same keys."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection
from pytest_django import Settings

from .maker import Maker


class Victims(Maker):
    """A process that makes victims. Each command is answered when its victim has ended."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__("tests.chaos.victim", environment)

    def start(self, command: str, *ids: object) -> None:
        self.tell(f"{command}|{' '.join(map(str, ids))}")

    def ended(self) -> str:
        return self.said()

    def kill(self) -> None:
        """End the victim that is under way."""
        for victim in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            os.kill(int(victim), signal.SIGKILL)
        assert self.said() == "killed"


@pytest.fixture(scope="session")
def makers(django_db_setup: None) -> Iterator[list[Victims]]:
    """Two of them; a victim is a fork, so they are as new for each test."""
    made = [Victims(environment()) for _ in range(2)]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def victims(makers: list[Victims], transactional_db: None, settings: Settings) -> list[Victims]:
    """The test itself may reach this machine too."""
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    return makers


def environment() -> dict[str, str]:
    """Return what a process of the product needs to use the test's database and files."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return kept | {
        "DJANGO_SETTINGS_MODULE": "mcp_oauth_site.settings",
        "DATA_DIR": str(settings.DATA_DIR),
        "DEBUG": "true",
        "EGRESS_ALLOW": "127.0.0.1",
        "DATABASE_URL": _database_url(),
    }


def _database_url() -> str:
    chosen = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{chosen['NAME']}"
    return f"postgresql:///{chosen['NAME']}?host={quote(chosen['HOST'])}&user={chosen['USER']}&port={chosen['PORT']}"
