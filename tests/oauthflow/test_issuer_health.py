"""An issuer in trouble is left alone, and nobody is marked because of it. Faults F12, F14, F15, F16."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from unittest.mock import DEFAULT, Mock
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.db import connection as database

from audit.models import AuditRecord
from connections.leases import IN_FLIGHT_PER_ISSUER
from connections.models import Connection, TokenSet
from oauthflow.flows import refresh_due as refresh_due_module
from oauthflow.flows.refresh import batch, health
from oauthflow.flows.refresh.queues import KEPT_FREE
from oauthflow.flows.refresh.single import refresh_connection
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.models import IssuerHealth
from oauthflow.protocol.errors import TransportError
from oauthflow.protocol.retry_after import ServerUnavailableError
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.faults import fault


@pytest.fixture
def many(world: World, now: datetime) -> list[Connection]:
    people = [User.objects.create_user(f"user{number}") for number in range(30)]
    return [world.connect(person, now=now) for person in people]


def due(now: datetime) -> datetime:
    return now + timedelta(seconds=3000)


@fault("F16")
def test_during_an_outage_one_request_in_thirty_seconds_is_sent_and_all_come_back_after_it(
    world: World, many: list[Connection], now: datetime
) -> None:
    server = world.authorization_server
    server.refresh_answer = Answer(503)
    moment = due(now)
    for _ in range(120):
        refresh_due(now=moment)
        moment += timedelta(seconds=30)

    assert len(server.refresh_requests) <= 150
    assert not Connection.objects.filter(status="reauth_required").exists()
    server.refresh_answer = None
    for seconds in (0, 60, 120):
        refresh_due(now=moment + timedelta(seconds=seconds))
    assert Connection.objects.filter(status="active").count() == len(many)


def test_of_an_issuer_that_is_held_back_only_the_first_few_are_read(
    world: World, many: list[Connection], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.authorization_server.refresh_answer = Answer(503)
    refresh_due(now=due(now))
    read, original = [], batch._Run._read

    def counted(run: batch._Run, ids: Sequence[UUID]) -> list[TokenSet]:
        read.extend(ids)
        return original(run, ids)

    monkeypatch.setattr(batch._Run, "_read", counted)
    TokenSet.objects.update(next_attempt_at=None)
    refresh_due(now=due(now) + timedelta(seconds=10))
    refresh_due(now=due(now) + timedelta(seconds=31))  # one tries
    assert len(read) == 2 * (IN_FLIGHT_PER_ISSUER - KEPT_FREE) < 2 * len(many)


@fault("F18")
@pytest.mark.parametrize("client_id", ["", "client-1"])
@pytest.mark.parametrize("seconds", [1, -1])  # one may try
@pytest.mark.parametrize(
    ("grant_type", "limit"), [("authorization_code", "MOST_AT_A_TIME"), ("token_exchange", "MOST_IN_TURN")]
)
def test_however_many_wait_for_an_issuer_in_trouble_they_take_nobody_elses_place_in_a_run(
    world: World,
    many: list[Connection],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    client_id: str,
    seconds: int,
    grant_type: str,
    limit: str,
) -> None:
    monkeypatch.setattr(refresh_due_module, limit, len(many) - 1)
    TokenSet.objects.update(client_id="client-1", grant_type=grant_type)
    TokenSet.objects.filter(connection=many[-1]).update(
        issuer="https://other.example", expires_at=now + timedelta(seconds=3601)
    )
    issuer = TokenSet.objects.exclude(connection=many[-1]).values_list("issuer", flat=True)[0]
    IssuerHealth.objects.create(
        key=health._key(issuer, client_id), issuer=issuer, client_id=client_id,
        paused_until=due(now) + timedelta(seconds=seconds),
    )  # fmt: skip
    reached: list[str] = []

    def many_at_once(rows: Sequence[tuple[UUID, str]], **_: object) -> batch.Outcome:
        reached.extend(issuer for _, issuer in rows)
        return batch.Outcome()

    monkeypatch.setattr(refresh_due_module, "refresh_many", many_at_once)
    monkeypatch.setattr(refresh_due_module, "refresh_connection", lambda one, **_: reached.append(one.tokens.issuer))
    refresh_due(now=due(now))
    assert reached[0] == "https://other.example"
    assert len(reached) == len(many) - 1


@fault("F15")
def test_an_issuer_that_refuses_everybody_after_an_outage_is_guarded_as_any_other(
    world: World, many: list[Connection], now: datetime
) -> None:
    """Tried once in 30 s it would refuse 20 in 10 minutes, and never be found to refuse too many."""
    server, moment = world.authorization_server, due(now)
    server.refresh_answer = Answer(503)
    refresh_due(now=moment)
    server.refresh_answer = Answer(400, {"error": "invalid_grant"})
    for _ in range(60):
        moment += timedelta(seconds=40)
        refresh_due(now=moment)
    assert Connection.objects.filter(status="reauth_required").count() == health.MASS_COUNT
    assert Connection.objects.filter(status="degraded", reason="invalid_grant").count() == len(many) - 20


@fault("F12")
def test_what_fails_beside_an_answer_that_named_a_time_shortens_no_pause(
    world: World, alice: User, now: datetime
) -> None:
    world.connect(alice, now=now)
    row = TokenSet.objects.select_related("connection__server").get()
    for _ in range(health.FAILURES):
        health.note_failure(row, ServerUnavailableError(retry_after=300), now=now)
    health.note_failure(row, TransportError(), now=now)
    assert IssuerHealth.objects.get().paused_until == now + timedelta(seconds=300)

    later = now + timedelta(seconds=301)
    assert health.require_open(row, now=later).is_try
    health.note_failure(row, TransportError(), now=later)
    assert IssuerHealth.objects.get().paused_until == later + health.PROBE_EVERY


def test_what_is_in_trouble_is_looked_up_once_for_a_list_and_not_for_each_row(db: None) -> None:
    """Of 30,000 that were due with 300 services in trouble the list took 0.8 s on PostgreSQL."""
    listed = Connection.objects.order_by(health.is_in_trouble()).values_list("pk")
    statement, parameters = listed.query.sql_with_params()
    told = "EXPLAIN" if database.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    with database.cursor() as cursor:
        cursor.execute(f"{told} {statement}", parameters)
        plan = str(cursor.fetchall())
    assert plan.count("hashed SubPlan" if database.vendor == "postgresql" else "LIST SUBQUERY") == 2
    assert "CORRELATED" not in plan


def test_retry_after_is_obeyed_for_the_whole_issuer(world: World, many: list[Connection], now: datetime) -> None:
    world.authorization_server.refresh_answer = Answer(429, "", {"Retry-After": "600"})
    refresh_due(now=due(now))
    sent = len(world.authorization_server.refresh_requests)

    refresh_due(now=due(now) + timedelta(seconds=599))
    assert len(world.authorization_server.refresh_requests) == sent
    refresh_due(now=due(now) + timedelta(seconds=601))
    assert len(world.authorization_server.refresh_requests) == sent + 1


@fault("F14")
def test_a_refused_client_marks_nobody_alerts_once_and_is_tried_every_five_minutes(
    world: World, many: list[Connection], now: datetime
) -> None:
    world.authorization_server.forgets_clients = True
    refresh_due(now=due(now))
    sent = len(world.authorization_server.refresh_requests)
    assert sent <= 20
    for seconds in range(10, 301, 10):
        refresh_due(now=due(now) + timedelta(seconds=seconds))

    assert len(world.authorization_server.refresh_requests) == sent + 1
    assert not Connection.objects.filter(status="reauth_required").exists()
    alerts = AuditRecord.objects.filter(event="token.refresh_failed", connection="")
    assert [alert.reason for alert in alerts] == ["invalid_client"]


@fault("F15")
def test_when_a_server_refuses_everybody_at_most_twenty_are_believed(
    world: World, many: list[Connection], now: datetime
) -> None:
    world.authorization_server.refresh_tokens.clear()
    for seconds in range(0, 7200, 600):
        refresh_due(now=due(now) + timedelta(seconds=seconds))

    assert Connection.objects.filter(status="reauth_required").count() == 20
    assert Connection.objects.filter(status="degraded", reason="invalid_grant").count() == 10
    assert AuditRecord.objects.filter(reason=health.MASS_REFUSAL).count() == 1
    assert TokenSet.objects.count() == 30


def test_a_few_refusals_are_believed(world: World, many: list[Connection], now: datetime) -> None:
    for token_set in TokenSet.objects.all()[:5]:
        world.authorization_server.refresh_tokens.pop(token_set.refresh_token_sealed.reveal().reveal())

    assert refresh_due(now=due(now)) == {"refreshed": 25, "failed": 5}
    assert Connection.objects.filter(status="reauth_required").count() == 5


def test_access_that_was_renewed_is_given_though_the_trouble_cannot_be_forgotten(
    world: World, alice: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = world.connect(alice, now=now)
    token_set = TokenSet.objects.select_related("connection__server").get()
    health.note_failure(token_set, TransportError("away"), now=due(now))
    monkeypatch.setattr(health, "_forget_trouble", Mock(side_effect=OperationalError("deadlock detected")))
    assert refresh_connection(connection, now=due(now), trigger="use").status == "active"
    assert refresh_due(now=due(due(now)))["refreshed"] == 1


def test_what_paused_is_due_again_at_the_next_success_where_the_first_cannot_note_it(
    world: World, alice: User, bob: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for person in (alice, bob):
        world.connect(person, now=now)
    token_set = TokenSet.objects.select_related("connection__server").filter(connection__user=alice).get()
    for _ in range(health.FAILURES):
        health.note_failure(token_set, TransportError("away"), now=now)
    TokenSet.objects.filter(connection__user=bob).update(next_attempt_at=now + timedelta(hours=1))
    failing = Mock(side_effect=[OperationalError("deadlock detected"), *[DEFAULT] * 2], wraps=health.lock_by_key)
    monkeypatch.setattr(health, "lock_by_key", failing)

    for _ in range(2):
        health.note_success(token_set, now=now)

    assert not TokenSet.objects.filter(next_attempt_at__isnull=False).exists()
    assert not IssuerHealth.objects.filter(paused_until__isnull=False).exists()
