"""What happens in one process is heard on the streams of another, and what ends there ends here."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
import requests

from tests.product import free_port, wait_for

from .site import Site, ask, eventually

pytestmark = pytest.mark.scale


class Listener:
    """Reads a stream in a thread; `ended_at` is when the server closed it in order."""

    def __init__(self, web: str, path: str, *, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        self._answer = requests.get(f"{web}/api/v1/{path}", headers=headers, stream=True, timeout=60)
        assert self._answer.status_code == 200, self._answer.text
        self.lines: list[str] = []
        self.heard_at: list[float] = []
        self.ended_at: float | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def hears(self, word: str) -> bool:
        return any(word in line for line in self.lines)

    def _read(self) -> None:
        for line in self._answer.iter_lines(decode_unicode=True):
            self.lines.append(line)
            if line.startswith("event: "):
                self.heard_at.append(time.monotonic())
        self.ended_at = time.monotonic()


def revoke(web: str, connection: str, *, token: str) -> None:
    assert ask(f"{web}/api/v1/connections/{connection}/revoke", method="POST", token=token, body={}).status == 200


def delete(web: str, connection: str, *, token: str) -> None:
    assert ask(f"{web}/api/v1/connections/{connection}", method="DELETE", token=token).status == 204


def deactivate(site: Site, name: str) -> None:
    with psycopg.connect(site.environment["DATABASE_URL"]) as database:
        database.execute("UPDATE auth_user SET is_active = false WHERE username = %s", [name])


def release(web: str, connection: str, *, token: str) -> int:
    return ask(f"{web}/api/v1/connections/{connection}/token", method="POST", token=token, body={}).status


@pytest.mark.parametrize(("how", "refused"), [("revoke", 409), ("delete", 404), ("deactivate", 401)])
def test_what_ends_on_one_process_is_refused_by_all_its_stream_closed_and_its_service_told(
    site: Site, how: str, refused: int
) -> None:
    """Two web and two worker processes; each promise within a second, looked for until it holds."""
    token, (connection,) = site.seed(f"ended-by-{how}")
    first, second = site.webs
    listeners = [Listener(web, f"connections/{connection}/events", token=token) for web in site.webs]
    assert [release(web, connection, token=token) for web in site.webs] == [200, 200]
    if how == "deactivate":
        deactivate(site, f"ended-by-{how}")
    else:
        {"revoke": revoke, "delete": delete}[how](first, connection, token=token)
    eventually(lambda: release(second, connection, token=token) == refused, seconds=1)
    eventually(lambda: all(listener.ended_at for listener in listeners), seconds=1)
    assert release(first, connection, token=token) == refused
    site.send_tasks("oauthflow.tasks.refresh_due_tokens")
    site.send_tasks("oauthflow.tasks.end_what_deactivated_people_hold")
    owner = f"ended-by-{how}-0"
    eventually(lambda: {f"refresh-{owner}", f"access-{owner}"} <= set(site.upstream.revoked), seconds=5)
    assert not site.upstream.seen[f"refresh-{owner}"]


def test_a_change_in_one_process_is_heard_in_the_other_within_a_second(site: Site) -> None:
    token, (connection,) = site.seed("heard")
    first, second = site.webs
    listener = Listener(second, "events", token=token)
    revoke(first, connection, token=token)
    eventually(lambda: listener.hears("credentials.revoked"), seconds=1)


def test_streams_of_what_is_deleted_elsewhere_end_within_a_second(site: Site) -> None:
    token, (connection, other) = site.seed("deleted", connections=2)
    first, second = site.webs
    ending = Listener(second, f"connections/{connection}/events", token=token)
    staying = Listener(second, f"connections/{other}/events", token=token)
    assert ask(f"{first}/api/v1/connections/{connection}", method="DELETE", token=token).status == 204
    eventually(lambda: ending.ended_at is not None, seconds=1)
    assert staying.ended_at is None


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("suspended", "UPDATE auth_user SET is_active = false WHERE username = %s"),
        (
            "tokenless",
            "UPDATE connections_apitoken SET revoked_at = now() FROM auth_user"
            " WHERE auth_user.id = user_id AND username = %s",
        ),
    ],
)
def test_streams_of_who_lost_the_right_end_in_every_process_within_a_second(
    site: Site, name: str, statement: str
) -> None:
    token, _ = site.seed(name)
    listeners = [Listener(web, "events", token=token) for web in site.webs]
    with psycopg.connect(site.environment["DATABASE_URL"]) as database:
        database.execute(statement, [name])
    eventually(lambda: all(listener.ended_at for listener in listeners), seconds=1)


def test_with_redis_paused_events_come_a_little_later(site: Site) -> None:
    token, (connection,) = site.seed("patient")
    listener = Listener(site.webs[1], "events", token=token)
    site.redis.pause()
    try:
        revoke(site.webs[0], connection, token=token)
        eventually(lambda: listener.hears("credentials.revoked"), seconds=6)
    finally:
        site.redis.go_on()


_SEVERAL = """
import time
from connections.models import Connection
from oauthflow.events import emit
from oauthflow.models import EventType
connection, told = Connection.objects.get(pk="{connection}"), []
for _ in range(6):
    time.sleep(0.33)
    emit(EventType.TOKEN_REFRESHED, connection)
    told.append(time.monotonic())
print(*told)
"""


def test_without_redis_the_database_wakes_the_reader(site: Site) -> None:
    token, (connection,) = site.seed("woken")
    without = {name: value for name, value in site.environment.items() if name != "REDIS_URL"}
    port = free_port()
    with closing(replace(site, environment=without)) as alone, alone.role("web", "web-4", port=port) as process:
        web = f"http://localhost:{port}"
        wait_for(f"{web}/healthz", process=process, log=site.logs["web-4"], seconds=300)
        listener = Listener(web, "events", token=token)
        told = [float(moment) for moment in alone.run(_SEVERAL.format(connection=connection)).split()]
        eventually(lambda: len(listener.heard_at) == len(told), seconds=2)
