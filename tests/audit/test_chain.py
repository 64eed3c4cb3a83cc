"""Whoever changes the stored record is found out, and where."""

from __future__ import annotations

import base64
import copy
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from pytest_django import Settings

from audit.chain import BrokenLink, broken_links, compute_mac, current_key
from audit.events import AuditEvent
from audit.models import AuditHead, AuditRecord
from audit.record import record

from .recorded import recorded

pytestmark = pytest.mark.django_db

_LENGTH = 20
_MUTATIONS = 1000


@dataclass
class Chain:
    """A stored chain, in memory, to be tampered with."""

    records: list[AuditRecord]
    head_sequence: int
    head_mac: str

    def problems(self) -> list[BrokenLink]:
        return list(broken_links(iter(self.records), head_sequence=self.head_sequence, head_mac=self.head_mac))


@pytest.fixture
def chain() -> Chain:
    events = list(AuditEvent)
    for number in range(_LENGTH):
        record(events[number % len(events)], actor=f"{number}", server="notion", details={"count": number})
    head = AuditHead.objects.get()
    return Chain(list(AuditRecord.objects.order_by("sequence")), head.sequence, head.mac)


def _edit(chain: Chain, dice: random.Random) -> None:
    victim = dice.choice(chain.records)
    column = dice.choice(
        ["at", "event", "actor", "server", "connection", "client", "reason", "correlation_id", "details", "key_id",
         "mac", "previous_mac"]
    )  # fmt: skip
    if column == "at":
        victim.at += timedelta(microseconds=dice.randint(1, 10**9))
    elif column == "details":
        victim.details = {"count": dice.randint(1000, 9999)}
    else:
        setattr(victim, column, getattr(victim, column)[:-1] + dice.choice(["x", "yy"]))


def _delete(chain: Chain, dice: random.Random) -> None:
    del chain.records[dice.randrange(len(chain.records))]


def _swap(chain: Chain, dice: random.Random) -> None:
    """Exchange the contents of two records and leave their numbers where they are."""
    one, other = dice.sample(chain.records, 2)
    one.sequence, other.sequence = other.sequence, one.sequence
    chain.records.sort(key=lambda kept: kept.sequence)


def _truncate(chain: Chain, dice: random.Random) -> None:
    del chain.records[dice.randrange(len(chain.records)) :]


def _insert(chain: Chain, dice: random.Random) -> None:
    place = dice.randrange(len(chain.records))
    chain.records.insert(place, copy.copy(chain.records[place]))


def test_an_untouched_chain_holds(chain: Chain) -> None:
    assert chain.problems() == []


def test_an_empty_chain_holds() -> None:
    assert Chain([], 0, "").problems() == []


def test_each_of_a_thousand_random_single_mutations_is_found(chain: Chain) -> None:
    ways: list[Callable[[Chain, random.Random], None]] = [_edit, _delete, _swap, _truncate, _insert]
    unnoticed = []
    dice = random.SystemRandom()
    for number in range(_MUTATIONS):
        tampered = copy.deepcopy(chain)
        way = ways[number % len(ways)]
        way(tampered, dice)
        if not tampered.problems():
            unnoticed.append((way.__name__, tampered))
    assert unnoticed == []


def test_the_first_bad_record_is_named(chain: Chain) -> None:
    chain.records[6].reason = "changed"
    assert chain.problems()[0].sequence == 7


def test_a_missing_record_is_named(chain: Chain) -> None:
    del chain.records[4]
    assert chain.problems()[0].sequence == 5


def test_a_cut_off_end_is_found_at_the_first_missing_number(chain: Chain) -> None:
    del chain.records[-3:]
    assert [problem.sequence for problem in chain.problems()] == [_LENGTH - 2]


def test_a_whole_chain_forged_with_another_key_is_found(chain: Chain) -> None:
    previous = ""
    for kept in chain.records:
        kept.previous_mac = previous
        kept.mac = previous = compute_mac(kept, key="a key of the attacker")
    chain.head_mac = previous
    assert chain.problems()


def test_records_of_an_older_key_still_verify_and_new_ones_use_the_new_key(chain: Chain, settings: Settings) -> None:
    old = current_key()
    settings.AUDIT_KEYS = [base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(), old]
    newest = recorded(AuditEvent.KEY_ROTATED)
    head = AuditHead.objects.get()
    both = Chain(list(AuditRecord.objects.order_by("sequence")), head.sequence, head.mac)
    assert both.problems() == []
    assert newest.key_id != both.records[0].key_id


def test_a_key_that_was_taken_away_is_reported_and_not_taken_for_tampering(chain: Chain, settings: Settings) -> None:
    settings.AUDIT_KEYS = [base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()]
    assert "AUDIT_KEYS" in chain.problems()[0].problem
