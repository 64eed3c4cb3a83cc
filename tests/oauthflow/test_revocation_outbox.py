"""What services are told later: in the right order, again and again for a day, and nobody is held up by another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from cryptography.fernet import Fernet, MultiFernet
from django.contrib.auth.models import User
from django.db import connection as database
from django.utils import timezone
from encrypted_model_fields import fields as encrypted
from pytest_django import Settings

from audit.models import AuditRecord
from connections.key_rotation import rotate_keys
from connections.models import Connection, FlowTrace, Revocation, TokenSet
from connections.models.revocation import SECRETS
from connections.sealing import Ciphertext
from oauthflow.flows import outbox
from oauthflow.flows.purge import purge_revocations
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.flows.revocation_outbox import batch, revoke_due, telling
from oauthflow.flows.revoke import revoke_connection, revoke_connections
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.signing_key import SigningKey
from tests.fakes.authorization_server import FakeAuthorizationServer
from tests.fakes.internet import Answer, Call
from tests.fakes.mcp_server import FakeMcpServer
from tests.fakes.world import World
from tests.faults import fault


@pytest.fixture
def widest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are as long as they can be, not drawn by lot, and a run takes no time."""
    monkeypatch.setattr(batch._Run, "_moment", lambda run: run._now)
    monkeypatch.setattr("oauthflow.flows.outbox._random.random", lambda: 1.0)


@pytest.fixture
def ended(world: World, alice: User, now: datetime) -> Connection:
    """A grant that ended here and that nobody has told the service of."""
    connection = world.connect(alice, now=now)
    assert revoke_connections([connection], actor=alice, reason="left", now=now) == 1
    return connection


def outcomes() -> list[tuple[str, str]]:
    """Outcome and reason of the audit records about services."""
    found = AuditRecord.objects.filter(event="credentials.revoked", details__target="upstream").order_by("sequence")
    return [(entry.details["outcome"], entry.reason) for entry in found]


def holds_secrets() -> bool:
    return any(getattr(row, name) for row in Revocation.objects.all() for name in SECRETS)


def test_the_worker_revokes_the_refresh_token_first_and_keeps_no_secret(
    world: World, ended: Connection, now: datetime
) -> None:
    assert world.authorization_server.revocations == []
    assert holds_secrets()
    assert revoke_due(now=now) == batch.Told(finished=1, failed=0)
    hints = [one["token_type_hint"] for one in world.authorization_server.revocations]
    assert hints == ["refresh_token", "access_token"]
    assert world.authorization_server.refresh_tokens == {}
    assert outcomes() == [("revoked", "left")]
    assert not holds_secrets()
    assert revoke_due(now=now) == batch.Told(finished=0, failed=0)


def test_a_client_secret_goes_along_although_its_server_is_gone(world: World, alice: User, now: datetime) -> None:
    world.authorization_server.auth_methods = ["client_secret_basic"]
    connection = world.connect(alice, now=now)
    connection.server.delete()
    assert revoke_due(now=timezone.now()).finished == 2
    (first, _) = world.internet.calls_to("/revoke")
    assert first.headers["Authorization"].startswith("Basic ")


@pytest.mark.usefixtures("widest")
def test_an_outage_is_waited_for_with_growing_pauses_up_to_a_day(
    world: World, ended: Connection, now: datetime
) -> None:
    world.authorization_server.revocation_answer = Answer(503)
    tries, moment = [], now
    while Revocation.objects.waiting().exists():
        moment = Revocation.objects.get().next_attempt_at
        tries.append(moment - now)
        revoke_due(now=moment)
    assert tries[:4] == [timedelta(seconds=seconds) for seconds in (0, 10, 30, 70)]
    assert max(later - earlier for earlier, later in zip(tries, tries[1:], strict=False)) == timedelta(hours=1)
    assert tries[-1] == timedelta(hours=24)
    assert outcomes() == [("given_up", "temporarily_unavailable")]
    assert not holds_secrets()
    assert len(world.authorization_server.revocations) == len(tries)


@pytest.mark.usefixtures("widest")
@pytest.mark.parametrize(("asked", "seconds"), [("7200", 7200), ("5", 10)])
def test_the_server_says_how_long_to_wait(
    world: World, ended: Connection, now: datetime, asked: str, seconds: int
) -> None:
    world.authorization_server.revocation_answer = Answer(429, headers={"Retry-After": asked})
    revoke_due(now=now)
    assert Revocation.objects.get().next_attempt_at == now + timedelta(seconds=seconds)
    assert revoke_due(now=now + timedelta(seconds=seconds - 1)) == batch.Told(finished=0, failed=0)


def test_what_was_revoked_is_not_sent_again_with_what_was_not(world: World, ended: Connection, now: datetime) -> None:
    def refuse_access(call: Call) -> Answer:
        if call.form.get("token_type_hint") == "access_token" and len(world.authorization_server.revocations) < 2:
            world.authorization_server.revocations.append(call.form)
            return Answer(500)
        return world.authorization_server(call)

    world.internet["https://as.example"] = refuse_access
    assert revoke_due(now=now) == batch.Told(finished=0, failed=1)
    assert revoke_due(now=Revocation.objects.get().next_attempt_at) == batch.Told(finished=1, failed=0)
    hints = [one["token_type_hint"] for one in world.authorization_server.revocations]
    assert hints == ["refresh_token", "access_token", "access_token"]
    assert outcomes() == [("revoked", "left")]


def test_a_server_that_revokes_no_such_tokens_is_not_asked_again(
    world: World, ended: Connection, now: datetime
) -> None:
    world.authorization_server.revocation_answer = Answer(400, {"error": "unsupported_token_type"})
    assert revoke_due(now=now) == batch.Told(finished=1, failed=0)
    assert outcomes() == [("unsupported", "left")]


def test_a_dead_issuer_is_tried_by_few_and_holds_up_no_other(world: World, now: datetime) -> None:
    other = World(
        world.internet,
        FakeAuthorizationServer("https://as2.example"),
        FakeMcpServer("https://mcp2.example/mcp", issuers=["https://as2.example"]),
    )
    people = [User.objects.create_user(f"user{number}") for number in range(30)]
    mine = [world.connect(person, now=now) for person in people]
    theirs = [other.connect(person, now=now, slug="other") for person in people[:3]]
    revoke_connections(mine + theirs, actor=None, reason="", now=now)
    world.authorization_server.revocation_answer = Answer(503)
    assert revoke_due(now=now) == batch.Told(finished=3, failed=batch.IN_FLIGHT_PER_ISSUER)
    assert other.authorization_server.refresh_tokens == {}
    assert Revocation.objects.waiting().filter(next_attempt_at__gt=now).count() == 30
    assert FlowTrace.objects.filter(kind="revoke", ok=False).count() == 1


def test_a_row_that_another_worker_has_is_left_alone_for_a_while(
    world: World, ended: Connection, now: datetime
) -> None:
    mine, theirs = Revocation.objects.get(), Revocation.objects.get()
    assert [outbox.claim(theirs, now=now), outbox.claim(mine, now=now)] == [True, False]
    assert revoke_due(now=now) == batch.Told()
    assert revoke_due(now=now + outbox.CLAIM).finished == 1


def test_who_lost_the_row_says_nothing_about_it(world: World, ended: Connection, now: datetime) -> None:
    older = Revocation.objects.get()
    outbox.claim(older, now=now)
    outbox.claim(Revocation.objects.get(), now=now + outbox.CLAIM)
    telling.failed(older, ServerUnavailableError(), now=older.give_up_at)
    assert (Revocation.objects.get().finished_at, outcomes()) == (None, [])


def test_what_this_host_cannot_open_is_left_to_others_and_given_up_after_a_day(
    world: World, ended: Connection, now: datetime
) -> None:
    Revocation.objects.update(refresh_token_sealed=Ciphertext("sealed with a key of another host"))
    assert revoke_due(now=now) == batch.Told(finished=0, failed=0)
    kept = Revocation.objects.get()
    assert (kept.finished_at, kept.attempts, kept.next_attempt_at) == (None, 0, now)
    revoke_due(now=kept.give_up_at)
    assert outcomes() == [("given_up", "credential_unreadable")]
    assert world.authorization_server.revocations == []


def test_what_cannot_be_asked_for_holds_up_no_other_and_is_given_up_after_a_day(
    world: World, alice: User, bob: User, now: datetime, settings: Settings, widest: None
) -> None:
    settings.SIGNING_KEYS = [dict(SigningKey.new().jwk)]
    signing = FakeAuthorizationServer(issuer="https://signed.example", auth_methods=["private_key_jwt"])
    world.internet["https://signed.example"] = signing
    place = FakeMcpServer(url="https://signed-mcp.example/mcp", issuers=["https://signed.example"])
    signed = World(world.internet, signing, place).connect(alice, now=now, slug="signed")
    plain = world.connect(bob, now=now)
    revoke_connections([signed, plain], actor=None, reason="", now=now)
    settings.SIGNING_KEYS = []

    assert revoke_due(now=now) == batch.Told(finished=1, failed=1)
    kept = Revocation.objects.get(finished_at=None)
    assert (kept.last_error, kept.next_attempt_at) == ("invalid_client", now + timedelta(seconds=10))
    assert revoke_due(now=kept.give_up_at).failed == 1
    assert ("given_up", "invalid_client") in outcomes()


# K02
def test_a_rotation_of_keys_seals_what_waits_anew(
    world: World, alice: User, now: datetime, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))

    def use(*keys: str) -> None:
        settings.FIELD_ENCRYPTION_KEY = list(keys)
        monkeypatch.setattr(encrypted, "CRYPTER", MultiFernet([Fernet(key) for key in keys]))

    use(old)
    revoke_connections([world.connect(alice, now=now)], actor=alice, reason="left", now=now)
    use(new, old)
    rotate_keys(now=now)
    use(new)
    assert revoke_due(now=now).finished == 1
    assert world.authorization_server.refresh_tokens == {}


def test_a_week_after_their_end_rows_are_gone(world: World, ended: Connection, now: datetime) -> None:
    assert purge_revocations(now=now + timedelta(days=30)) == 0
    revoke_due(now=now)
    assert purge_revocations(now=now + timedelta(days=7)) == 0
    assert purge_revocations(now=now + timedelta(days=7, seconds=1)) == 1


# Z05
@pytest.mark.parametrize(
    "delete",
    [
        lambda connection: connection.delete(),
        lambda connection: connection.user.delete(),
        lambda connection: connection.server.delete(),
        lambda connection: TokenSet.objects.all().delete(),
        lambda connection: Connection.objects.filter(pk=connection.pk).delete(),
    ],
    ids=["connection", "user", "server", "tokens", "queryset"],
)
def test_however_a_grant_is_deleted_it_ends_at_its_service(
    world: World, alice: User, now: datetime, delete: Callable[[Connection], object]
) -> None:
    delete(world.connect(alice, now=now))
    revoke_due(now=timezone.now())
    assert world.authorization_server.refresh_tokens == {}
    assert len(world.authorization_server.revocations) == 2
    assert [outcome for outcome, _ in outcomes()][:1] == ["revoked"]


@fault("F23")
@pytest.mark.parametrize("ends", [lambda found: None, lambda found: found.delete()], ids=["revoked", "deleted"])
def test_what_a_batch_gets_for_a_grant_that_ended_meanwhile_is_revoked_and_not_stored(
    world: World, alice: User, now: datetime, ends: Callable[[Connection], object]
) -> None:
    connection = world.connect(alice, now=now)

    def end() -> None:
        world.authorization_server.before_token_answer = None
        revoke_connections([connection], actor=alice, reason="", now=now)
        ends(connection)

    world.authorization_server.before_token_answer = end
    refresh_due(now=now + timedelta(seconds=3000))
    assert not TokenSet.objects.exists()
    assert len(world.authorization_server.refresh_tokens) == 1
    revoke_due(now=timezone.now())
    assert world.authorization_server.refresh_tokens == {}
    assert Counter(one["token_type_hint"] for one in world.authorization_server.revocations) == {
        "refresh_token": 2,
        "access_token": 2,
    }


def test_a_try_at_once_that_fails_is_taken_up_by_the_worker(world: World, alice: User, now: datetime) -> None:
    connection = world.connect(alice, now=now)
    world.authorization_server.revocation_answer = Answer(503)
    assert not revoke_connection(connection, actor=alice, reason="", now=now)
    world.authorization_server.revocation_answer = None
    assert revoke_due(now=now + timedelta(hours=1)).finished == 1
    assert world.authorization_server.refresh_tokens == {}


def test_an_error_that_says_nothing_about_the_server_puts_off_one_row_only(world: World, now: datetime) -> None:
    people = [User.objects.create_user(f"user{number}") for number in range(2)]
    found = [world.connect(person, now=now) for person in people]
    revoke_connections(found, actor=None, reason="", now=now)
    one, other = Revocation.objects.all()
    telling.failed(one, FlowError(code=Code.INVALID_REQUEST), now=now)
    other.refresh_from_db()
    assert other.next_attempt_at == now


def test_no_secret_is_in_clear_in_the_table(world: World, ended: Connection) -> None:
    with database.cursor() as cursor:
        cursor.execute("SELECT * FROM connections_revocation")
        text = repr(cursor.fetchall())
    for token in world.authorization_server.refresh_tokens:
        assert token not in text
