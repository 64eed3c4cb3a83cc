"""The short form of `benchmarks/long_run.py`: nobody notices that tokens end and workers are killed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.long_run import Outcome
from tests.product import ROOT

_CLEAN = Outcome(
    calls=60, failed=Counter(), slowest=0.5, refreshes=5, failed_refreshes=0, used_twice=0, grants=1, asked_again=0,
    status="active", kills=3, missing=0, memory=(500, 500),
)  # fmt: skip


@pytest.mark.scale
def test_a_program_that_calls_every_second_notices_neither_the_end_of_tokens_nor_killed_workers() -> None:
    command = [sys.executable, "-m", "benchmarks.long_run", "--minutes", "0.8", "--kill-every", "12"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr[-3000:]
    assert [line.split(": ")[:2] for line in finished.stdout.splitlines()[1:]] == [
        ["sqlite", "clean"], ["postgresql", "clean"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"failed": Counter({"500": 1})}, {"used_twice": 1}, {"grants": 0}, {"asked_again": 1}, {"missing": 1},
        {"status": "degraded"}, {"calls": 0}, {"refreshes": 0}, {"kills": 0},
    ],
    ids=str,
)  # fmt: skip
def test_the_verdict_sees_whatever_went_wrong(change: dict[str, Any]) -> None:
    assert _CLEAN.is_clean
    assert not replace(_CLEAN, **change).is_clean
