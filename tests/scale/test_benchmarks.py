"""The programs that print the figures still run, in a form short enough for every change; a wrong answer ends them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.product import ROOT

pytestmark = pytest.mark.scale
SHORT = {
    "refresh_batch --count 200 --issuers 10 --rounds 1 --in-turn 5": "ours ÷ bare",
    "refresh_outage --count 60 --minutes 5": "wrongly asked to sign in again 0",
    "refresh_races --connections 6 --rotations 2 --processes 2 --callers 4": "",
    "refresh_crowd --rounds 2": "1 request each",
    "release_alone --count 50": "",
    "token_release --connections 4 --calls 40 --rounds 1": "the chain holds",
}


@pytest.mark.parametrize("command", SHORT, ids=lambda command: str(command).split()[0])
def test_a_benchmark_runs_to_its_end(command: str) -> None:
    program, *options = command.split()
    finished = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{program}", *options],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-2000:]
    print(finished.stdout)
    assert SHORT[command] in finished.stdout
    assert finished.stdout.strip()
