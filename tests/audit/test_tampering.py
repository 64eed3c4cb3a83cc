"""Whoever can write to the database is found out, also where they cut off the end and set the head back. K07."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, models, transaction
from pytest_django import Settings

from audit import guard
from audit.anchors import Anchors, note_head, our_anchors
from audit.events import AuditEvent
from audit.models import AuditHead, AuditRecord
from audit.record import record
from audit.verification import problems, whole_chain

from .recorded import recorded

pytestmark = pytest.mark.django_db

_LENGTH = 10
_MUTATIONS = 1000
_TEXTS = (
    "event",
    "actor",
    "server",
    "connection",
    "client",
    "reason",
    "correlation_id",
    "key_id",
    "mac",
    "previous_mac",
)


@pytest.fixture
def anchors(settings: Settings, tmp_path: Path) -> Anchors:
    """Of a chain of ten records without a guard; the fifth and the last are noted outside."""
    settings.AUDIT_HEAD_FILE = tmp_path / "audit-head.log"
    for number in range(1, _LENGTH + 1):
        written = recorded(AuditEvent.TOKEN_RELEASED, actor=f"{number}", server="notion", details={"count": number})
        if not number % 5:
            note_head(number, written.mac)
    guard.remove(None, connection.schema_editor())
    return our_anchors()


def _stored() -> models.QuerySet[AuditRecord]:
    return models.QuerySet(AuditRecord).order_by("sequence")


def _set_head_to_the_last() -> None:
    last = _stored().last()
    AuditHead.objects.update(sequence=last.sequence if last else 0, mac=last.mac if last else "")


def _edit(dice: random.Random) -> None:
    victim = _stored()[dice.randrange(_LENGTH)]
    column = dice.choice(["at", "details", *_TEXTS])
    changed: dict[str, Any] = {
        "at": victim.at + timedelta(microseconds=dice.randint(1, 10**9)),
        "details": {"count": -1},
    }
    changed |= {name: getattr(victim, name)[:-1] + dice.choice("xy") for name in _TEXTS}
    _stored().filter(pk=victim.pk).update(**{column: changed[column]})


def _delete(dice: random.Random) -> None:
    _stored().filter(sequence=dice.randint(1, _LENGTH)).delete()


def _delete_and_close_the_gap(dice: random.Random) -> None:
    gone = dice.randint(1, _LENGTH - 1)
    _stored().filter(sequence=gone).delete()
    for number in range(gone + 1, _LENGTH + 1):
        _stored().filter(sequence=number).update(sequence=number - 1)
    _set_head_to_the_last()


def _swap(dice: random.Random) -> None:
    one, other = dice.sample(range(1, _LENGTH + 1), 2)
    for old, new in ((one, 99), (other, one), (99, other)):
        _stored().filter(sequence=old).update(sequence=new)


def _cut_off(dice: random.Random) -> None:
    _stored().filter(sequence__gt=dice.randrange(_LENGTH)).delete()


def _cut_off_and_set_the_head_back(dice: random.Random) -> None:
    _cut_off(dice)
    _set_head_to_the_last()


def _cut_off_and_go_on(dice: random.Random) -> None:
    """The site itself goes on writing after the cut: its own codes, over another past."""
    _cut_off_and_set_the_head_back(dice)
    for _ in range(dice.randint(1, _LENGTH)):
        record(AuditEvent.TOKEN_REFRESHED)


def _insert(dice: random.Random) -> None:
    forged = _stored()[dice.randrange(_LENGTH)]
    forged.sequence = _LENGTH + 1
    forged._state.adding = True
    forged.save()
    if dice.random() < 0.5:
        _set_head_to_the_last()


def test_an_untouched_record_holds(anchors: Anchors) -> None:
    assert sorted(anchors) == [5, 10]
    assert list(problems(whole_chain(), anchors=anchors)) == []


def test_each_of_a_thousand_random_single_mutations_in_the_database_is_found(anchors: Anchors) -> None:
    ways: list[Callable[[random.Random], None]] = [
        _edit, _delete, _delete_and_close_the_gap, _swap, _cut_off, _cut_off_and_set_the_head_back, _cut_off_and_go_on,
        _insert,
    ]  # fmt: skip
    dice, unnoticed = random.SystemRandom(), []
    for number in range(_MUTATIONS):
        way = ways[number % len(ways)]
        with transaction.atomic():
            way(dice)
            if next(problems(whole_chain(), anchors=anchors), None) is None:
                unnoticed.append((way.__name__, list(_stored().values())))
            transaction.set_rollback(True)
    print(f"single mutations of the audit record found: {_MUTATIONS - len(unnoticed)} of {_MUTATIONS}")
    assert unnoticed == []
    assert list(problems(whole_chain(), anchors=anchors)) == []


def test_without_what_was_noted_outside_a_cut_with_a_head_set_back_could_not_be_found(anchors: Anchors) -> None:
    _stored().filter(sequence__gt=7).delete()
    _set_head_to_the_last()
    assert list(problems(whole_chain())) == []
    assert [found.sequence for found in problems(whole_chain(), anchors=anchors)] == [8]
