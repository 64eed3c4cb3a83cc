"""Somebody takes a consent back, or blocks a client, at the very moment when something is made of it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from authserver.flows import decide_authorization
from authserver.flows.end_grants import block_client, end_consents
from authserver.models import Consent, TokenFamily

from .asking import ask, decide, gateway_server, registered
from .grants import make_consent, make_family

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_consent_taken_back_while_its_code_is_made_leaves_nothing_standing(
    alice: User, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(alice)
    gateway_server()
    ask(client, registered())
    issue = decide_authorization.issue_authorization_code
    threads = []

    def take_back() -> None:
        end_consents(Consent.objects.all(), reason="revoked_by_user", actor=alice, now=timezone.now())
        connections.close_all()

    def issue_late(*args: Any, **kwargs: Any) -> Any:
        threads.append(threading.Thread(target=take_back))
        threads[0].start()
        threads[0].join(1)
        return issue(*args, **kwargs)

    monkeypatch.setattr(decide_authorization, "issue_authorization_code", issue_late)
    decide(client, "allow")
    threads[0].join(20)
    assert Consent.objects.get().revoked_at is not None
    assert list(TokenFamily.objects.values_list("ended_reason", flat=True)) == ["revoked_by_user"]


def test_consents_are_locked_before_families_by_whoever_blocks_a_client(alice: User) -> None:
    consent = make_consent(alice, registered())
    make_family(consent)
    with CaptureQueriesContext(connection) as queries:
        block_client(consent.client, actor=None, now=timezone.now())
    asked = [query["sql"] for query in queries]
    consents, families = (
        next(number for number, sql in enumerate(asked) if f'"authserver_{table}"' in sql.partition("WHERE")[0])
        for table in ("consent", "tokenfamily")
    )
    assert consents < families
