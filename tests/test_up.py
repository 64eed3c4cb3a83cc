"""The supervisor of `manage.py up`: restarts what crashes, leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client, override_settings

from mcp_oauth_site.management.commands import up
from mcp_oauth_site.startup import first_administrator_link
from mcp_oauth_site.supervise import Child, Supervisor
from oauthflow.tasks import LAST_ANSWER_SECONDS

_WRITES_ITS_PID = "import os,sys,time; open(sys.argv[1],'a').write(f'{os.getpid()}\\n'); time.sleep(60)"


def _pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _stop_when(condition: Callable[[], bool]) -> Callable[[], None]:
    deadline = time.monotonic() + 20

    def look() -> None:
        if condition() or time.monotonic() > deadline:
            os.kill(os.getpid(), signal.SIGINT)

    return look


def test_ctrl_c_stops_every_process(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    children = [Child(file.name, [sys.executable, "-c", _WRITES_ITS_PID, str(file)]) for file in files]
    Supervisor(children).run(on_tick=_stop_when(lambda: all(_pids(file) for file in files)))
    pids = [pid for file in files for pid in _pids(file)]
    assert len(pids) == 2
    assert all(_is_gone(pid) for pid in pids)


_TAKES_ITS_TIME = """
import signal, sys, time
def end(*_):
    time.sleep(float(sys.argv[2]))
    open(sys.argv[1], "a").write("ended")
    sys.exit()
signal.signal(signal.SIGTERM, end)
open(sys.argv[1], "w").write("began ")
time.sleep(60)
"""


def test_each_process_has_a_time_of_its_own_to_end(tmp_path: Path) -> None:
    files = [tmp_path / "quick", tmp_path / "slow"]
    children = [
        Child(file.name, [sys.executable, "-c", _TAKES_ITS_TIME, str(file), str(seconds)], stop_seconds=most)
        for file, seconds, most in ((files[0], 60, 0.3), (files[1], 1.5, 30))
    ]
    began: list[float] = []

    def both_are_there() -> bool:
        is_so = all(file.exists() and file.read_text() for file in files)
        if is_so:
            began.append(time.monotonic())
        return is_so

    Supervisor(children).run(on_tick=_stop_when(both_are_there))
    assert [file.read_text() for file in files] == ["began ", "began ended"]
    assert time.monotonic() - began[0] < 20


@pytest.mark.parametrize("only", [None, "worker"])
def test_a_worker_has_the_time_that_its_last_refresh_takes(only: str | None) -> None:
    stops = {child.name: child.stop_seconds for child in up._children("127.0.0.1", 8000, workers=1, only=only)}
    assert stops.pop("worker") > LAST_ANSWER_SECONDS
    assert set(stops.values()) <= {10.0}


def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    file = tmp_path / "one"
    killed: list[int] = []

    def second_is_there() -> bool:
        pids = _pids(file)
        if len(pids) == 1 and not killed:
            killed.append(pids[0])
            os.kill(pids[0], signal.SIGKILL)
        return len(pids) == 2

    Supervisor([Child("one", [sys.executable, "-c", _WRITES_ITS_PID, str(file)])]).run(
        on_tick=_stop_when(second_is_there)
    )
    assert len(_pids(file)) == 2


def test_a_process_of_the_pool_ends_with_the_worker_that_was_killed() -> None:
    """As Celery does: the worker forks, and tells the new process by a signal."""
    program = """
import os, sys, time
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
from celery import signals
import mcp_oauth_site.celery
if not os.fork():
    signals.worker_process_init.send(sender=None)
    print(os.getpid(), flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        worker.kill()
    deadline = time.monotonic() + 20
    while not _is_over(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _is_over(child)


def _is_over(pid: int) -> bool:
    try:
        return "(zombie)" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_crashes_in_a_row_are_answered_with_longer_pauses() -> None:
    child = Child("one", [sys.executable, "-c", ""])
    pauses = []
    for _ in range(8):
        child.started_at = time.monotonic()
        child.note_crash()
        pauses.append(round(child.start_after - time.monotonic()))
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30]


@override_settings(DEBUG=True)
def test_debug_beyond_this_machine_is_refused() -> None:
    with pytest.raises(CommandError, match="DEBUG"):
        call_command("up", host="0.0.0.0")


@pytest.mark.parametrize(
    ("option", "value"),
    [("port", 0), ("port", -5), ("port", 99999), ("workers", 0), ("workers", -1), ("host", "no-such-host.invalid")],
)
def test_numbers_and_addresses_that_make_no_sense_are_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(CommandError, match=f"--{option}"):
        call_command("up", **{option: value})


@override_settings(DEBUG=True)
def test_the_demonstration_needs_room_for_three_ports() -> None:
    with pytest.raises(CommandError, match="--upstream-port"):
        call_command("demo", upstream_port=65_534)


@pytest.mark.django_db
def test_the_first_administrator_chooses_a_password_by_a_link_that_works_once(client: Client) -> None:
    link = first_administrator_link()
    form = client.get(link.removeprefix("http://localhost:8000"), follow=True)
    chosen = {"new_password1": "a long enough phrase", "new_password2": "a long enough phrase"}
    client.post(form.redirect_chain[-1][0], chosen)
    assert User.objects.get(username="admin").check_password("a long enough phrase")
    assert Client().get(link.removeprefix("http://localhost:8000")).context["validlink"] is False
    assert first_administrator_link() == ""


def test_no_link_is_made_where_an_administrator_exists(administrator: User) -> None:
    assert first_administrator_link() == ""
