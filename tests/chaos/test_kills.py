"""A process is killed at an exact point of a refresh: what is lost, what is sent twice. Faults F01, F02, F09.

The short form kills 28 processes in single refreshes and 5 in runs over many. The long one:
`CHAOS_KILLS=1000 CHAOS_CROWD=50,50,20 scripts/test tests/chaos`.
"""

from __future__ import annotations

import os
import signal
import time

import pytest
from django.db import connection as database
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from audit.events import AuditEvent
from audit.models import AuditRecord
from audit.record import record
from audit.verification import problems, whole_chain
from connections.leases import IN_FLIGHT_PER_ISSUER
from connections.models import Connection, TokenSet
from mcp_oauth_site.env import FROZEN_SECONDS
from oauthflow.flows.refresh import refresh_connection
from oauthflow.flows.refresh.batch import Outcome
from oauthflow.flows.refresh.recovery import recover_abandoned
from oauthflow.flows.refresh.watch import SECONDS
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.protocol.errors import TransportError
from tests.fakes.read_only import read_only_database
from tests.faults import fault
from tests.product import free_port

from .conftest import Victims
from .grants import make_grants, seen, strict_server
from .victim import BATCH_PHASES, PHASES

pytestmark = [pytest.mark.chaos, pytest.mark.django_db(transaction=True)]

CALLERS, CONNECTIONS, ROTATIONS = map(int, os.environ.get("CHAOS_CROWD", "10,5,3").split(","))
ROUNDS = -(-int(os.environ.get("CHAOS_KILLS", "28")) // (2 * len(PHASES)))
BATCH_ROUNDS = max(1, ROUNDS // 20)
AT_RISK = frozenset({"sent", "answer in socket", "answer read"})


def numbers() -> list[str]:
    return [f"{phase.replace(' ', '_')}_{number}" for phase in PHASES for number in range(ROUNDS)]


def kill_each(victims: Victims, connections: list[Connection]) -> None:
    """Kill, and look after the dead as often as a worker does, or before they leave their issuer no room.

    Half of the room: for a moment PostgreSQL may still take the last ones for alive.
    """
    looked, unburied = time.monotonic(), 0
    for one in connections:
        victims.start(one.label.rpartition("_")[0].replace("_", " "), one.pk)
        assert victims.ended() == "killed", one.label
        unburied += 1
        if time.monotonic() - looked > SECONDS or unburied == IN_FLIGHT_PER_ISSUER // 2:
            recover_abandoned(now=timezone.now())
            looked, unburied = time.monotonic(), 0
    recover_abandoned(now=timezone.now())


def lost_phases() -> set[str]:
    lost = Connection.objects.exclude(status="active")
    assert {one.reason for one in lost} <= {"refresh_outcome_lost"}
    return {one.label.rpartition("_")[0].replace("_", " ") for one in lost}


@fault("F01")
@pytest.mark.parametrize("grace", [10.0, 0.0])
def test_nothing_is_lost_before_sending_and_after_spooling_and_elsewhere_only_without_grace(
    victims: list[Victims], grace: float
) -> None:
    with strict_server(free_port(), grace=grace) as origin:
        connections = make_grants(origin, numbers(), now=timezone.now())
        kill_each(victims[0], connections)
        saw, lost = seen(origin), lost_phases()
        print(
            f"{len(connections)} kills, grace {grace:.0f} s: lost when killed in {sorted(lost) or 'none of the phases'}"
        )

        assert lost <= (set() if grace else AT_RISK)
        assert not TokenSet.objects.exclude(lease_owner="").exists()
        # A token whose outcome nobody knows is sent again once, and no other is.
        assert saw["most_uses"] <= 2
        assert saw["used_twice"] <= ROUNDS * len(AT_RISK)
        for one in Connection.objects.filter(status="active"):
            refresh_connection(one, now=timezone.now(), trigger="request")
        assert seen(origin)["dead"] == sorted(one.label for one in Connection.objects.exclude(status="active"))


@fault("F02")
def test_of_two_processes_with_many_callers_each_token_is_used_once(victims: list[Victims]) -> None:
    with strict_server(free_port(), latency=0.05) as origin:
        connections = make_grants(origin, [f"shared{number}" for number in range(CONNECTIONS)], now=timezone.now())
        for rotation in range(ROTATIONS):
            TokenSet.objects.update(expires_at=timezone.now(), obtained_at=timezone.now())
            for one in victims:
                one.start(f"crowd {CALLERS}", *(connection.pk for connection in connections))
            assert [one.ended() for one in victims] == ["done", "done"]
            assert TokenSet.objects.filter(generation=rotation + 2).count() == len(connections)

        saw = seen(origin)
        print(f"2 × {CALLERS} callers, {saw['requests']} rotations: refresh tokens used twice {saw['used_twice']}")
        once_each = CONNECTIONS * ROTATIONS
        assert (saw["requests"], saw["used_twice"], saw["parallel_same"], saw["dead"]) == (once_each, 0, 0, [])


@fault("F01")
@pytest.mark.parametrize("phase", BATCH_PHASES)
@pytest.mark.parametrize("grace", [10.0, 0.0])
def test_a_run_that_is_killed_loses_no_more_than_what_was_on_its_way(
    victims: list[Victims], phase: str, grace: float
) -> None:
    with strict_server(free_port(), latency=0.02, grace=grace) as origin:
        for number in range(BATCH_ROUNDS):
            make_grants(origin, [f"many{number}_{one}" for one in range(60)], now=timezone.now(), issuers=3)
            victims[0].start(f"batch {phase}")
            assert victims[0].ended() == "killed"
            recover_abandoned(now=timezone.now())
            # The rest was never claimed.
            refresh_due(now=timezone.now())

        lost = Connection.objects.exclude(status="active")
        assert {one.reason for one in lost} <= {"refresh_outcome_lost"}
        on_their_way = BATCH_ROUNDS * 3 * IN_FLIGHT_PER_ISSUER
        assert lost.count() <= (0 if grace or phase == "claimed" else on_their_way)
        assert not TokenSet.objects.exclude(lease_owner="").exists()
        assert TokenSet.objects.filter(generation=2).count() == 60 * BATCH_ROUNDS - lost.count()
        saw = seen(origin)
        assert (saw["most_uses"] <= 2, saw["parallel_same"]) == (True, 0)
        if phase == "claimed":
            assert saw["used_twice"] == 0


@fault("F03")
@pytest.mark.parametrize(("phase", "grace"), [("claimed", 0.0), ("answer read", 60.0)])
def test_a_frozen_process_whose_lease_ended_sends_nothing_and_overwrites_nothing(
    victims: list[Victims], phase: str, grace: float
) -> None:
    with strict_server(free_port(), grace=grace) as origin:
        (connection,) = make_grants(origin, ["frozen"], now=timezone.now())
        victims[0].start(f"frozen {phase}", connection.pk)
        said, _, pid = victims[0].ended().partition(" ")
        assert said == "stopped"
        assert recover_abandoned(now=timezone.now()) == Outcome()  # it is alive, as far as anybody can see
        while TokenSet.objects.filter(lease_expires_at__gt=Now()).exists():
            time.sleep(0.1)
        refresh_connection(connection, now=timezone.now(), trigger="use")
        kept = TokenSet.objects.values().get()
        os.kill(int(pid), signal.SIGCONT)
        assert victims[0].ended() == ("failed" if phase == "claimed" else "done")

        assert TokenSet.objects.values().get() == kept
        assert Connection.objects.get().status == "active"
        assert seen(origin)["requests"] == (1 if phase == "claimed" else 2)
        refresh_connection(connection, now=timezone.now(), trigger="request")
        assert seen(origin)["dead"] == []


@fault("F03")
def test_a_process_frozen_inside_a_transaction_lets_go_of_its_locks_and_overwrites_nothing(
    victims: list[Victims],
) -> None:
    if database.vendor != "postgresql":
        pytest.skip("SQLite has no session that somebody else could end")
    with strict_server(free_port(), grace=60.0) as origin:
        (frozen,) = make_grants(origin, ["frozen"], now=timezone.now())
        victims[0].start("frozen recorded", frozen.pk)
        said, _, pid = victims[0].ended().partition(" ")
        assert said == "stopped"
        with transaction.atomic(), database.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{FROZEN_SECONDS}s'")  # the victim's own limit is shorter
            record(AuditEvent.KEY_ROTATED)  # it needs the end of the chain, which the frozen one holds
        while TokenSet.objects.filter(lease_expires_at__gt=Now()).exists():
            time.sleep(0.1)
        refresh_connection(frozen, now=timezone.now(), trigger="use")
        kept = TokenSet.objects.values().get()
        os.kill(int(pid), signal.SIGCONT)
        assert victims[0].ended() == "done"

        assert TokenSet.objects.values().get() == kept
        assert AuditRecord.objects.filter(event="token.refreshed").count() == 1
        assert not list(problems(whole_chain()))


@fault("F09")
def test_while_the_database_cannot_be_written_no_token_is_sent(victims: list[Victims]) -> None:
    with strict_server(free_port()) as origin:
        (first, *_) = make_grants(origin, [f"due{number}" for number in range(30)], now=timezone.now())
        with read_only_database():
            with pytest.raises(TransportError):
                refresh_connection(first, now=timezone.now(), trigger="use")
            assert refresh_due(now=timezone.now())["refreshed"] == 0
            sent = seen(origin)["requests"]
            print(f"token requests while the database cannot be written, 30 due: {sent}")
            assert sent == 0

        assert refresh_due(now=timezone.now()) == {"refreshed": 30, "failed": 0}
        assert AuditRecord.objects.filter(event="token.refreshed").count() == 30
