"""A sign-in service that is held back is seen by administrators, who decide what only they can. Faults F14, F15."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from audit.models import AuditRecord
from connections.models import Connection, TokenSet
from oauthflow.flows.mail.send_notices import send_notices
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.models import IssuerHealth, Notice
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.faults import fault

LIST = "/admin/oauthflow/issuerhealth/"


@pytest.fixture
def now() -> datetime:
    """The pages ask the clock themselves: what is due was made an hour ago."""
    return timezone.now() - timedelta(minutes=50)


@pytest.fixture
def many(world: World, now: datetime) -> list[Connection]:
    people = [User.objects.create_user(f"user{number}") for number in range(30)]
    return [world.connect(person, now=now) for person in people]


@pytest.fixture
def admin(administrator: User) -> Client:
    client = Client()
    client.force_login(administrator)
    return client


def refuse_everybody(world: World) -> None:
    world.authorization_server.refresh_tokens.clear()
    refresh_due(now=timezone.now())
    assert IssuerHealth.objects.guarded(now=timezone.now()).count() == 1


def choose(client: Client, action: str, **extra: str) -> str:
    chosen = {"action": action, "_selected_action": [one.pk for one in IssuerHealth.objects.all()], **extra}
    return client.post(LIST, chosen, follow=True).content.decode()


def decisions() -> list[tuple[str, str, str]]:
    found = AuditRecord.objects.filter(event="server.changed").order_by("sequence")
    return [(one.actor, one.reason, one.details["issuer"]) for one in found]


@fault("F15")
def test_refusals_of_everybody_are_shown_and_count_once_an_administrator_says_so(
    admin: Client, world: World, many: list[Connection], administrator: User
) -> None:
    refuse_everybody(world)
    assert "1 sign-in service refuses everybody&#x27;s grants." in admin.get("/admin/").content.decode()
    assert "Refuses everybody: not believed" in admin.get(LIST).content.decode()

    asked = choose(admin, "believe_selected")
    assert "10 connections of 10 people were refused and are kept" in asked
    assert decisions() == []
    choose(admin, "believe_selected", confirmed="yes")
    assert decisions() == [(str(administrator.pk), "refusals believed", many[0].issuer)]
    refresh_due(now=timezone.now())
    assert Connection.objects.filter(status="reauth_required").count() == 30
    assert "refuses everybody" not in admin.get("/admin/").content.decode()
    assert "Refusals are believed" in admin.get(LIST).content.decode()


@fault("F12")
def test_a_service_that_is_back_is_tried_at_once_where_an_administrator_says_so(
    admin: Client, world: World, many: list[Connection], administrator: User
) -> None:
    world.authorization_server.refresh_answer = Answer(503, "", {"Retry-After": "3600"})
    refresh_due(now=timezone.now())
    world.authorization_server.refresh_answer = None
    assert "1 sign-in service does not answer." in admin.get("/admin/").content.decode()
    refresh_due(now=timezone.now())
    assert not TokenSet.objects.filter(generation=2).exists()

    assert "Tried with one request within a minute: 1." in choose(admin, "try_selected")
    assert decisions() == [(str(administrator.pk), "tried now", many[0].issuer)]
    refresh_due(now=timezone.now())
    assert TokenSet.objects.filter(generation=2).exists()
    assert "None of these is held back." in choose(admin, "try_selected")


@fault("F14")
def test_a_service_that_does_not_know_us_is_a_matter_and_a_letter(
    admin: Client, world: World, many: list[Connection], administrator: User, settings: Settings,
    mailoutbox: list[object],
) -> None:  # fmt: skip
    settings.EMAIL_ENABLED = True
    User.objects.filter(pk=administrator.pk).update(email="admin@example.com")
    world.authorization_server.forgets_clients = True
    refresh_due(now=timezone.now())
    assert "1 sign-in service does not know this site." in admin.get("/admin/").content.decode()
    assert "Does not know this site" in admin.get(LIST).content.decode()
    assert [notice.user for notice in Notice.objects.filter(event_type="issuer.refuses")] == [administrator]

    assert send_notices(now=timezone.now()) == 1
    (letter,) = mailoutbox
    assert f"{settings.PUBLIC_URL}{LIST}" in str(getattr(letter, "body", ""))


def test_looking_at_them_decides_nothing(world: World, many: list[Connection], alice: User) -> None:
    refuse_everybody(world)
    alice.is_staff = True
    alice.save()
    alice.user_permissions.add(Permission.objects.get(codename="view_issuerhealth"))
    client = Client()
    client.force_login(alice)
    assert "Believe" not in client.get(LIST).content.decode()
    choose(client, "believe_selected", confirmed="yes")
    assert IssuerHealth.objects.guarded(now=timezone.now()).exists()
    assert client.get(f"{LIST}add/").status_code == 403
