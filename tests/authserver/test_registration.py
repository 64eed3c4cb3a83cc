"""The registration endpoint and the management of registrations."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client, override_settings
from django.utils import timezone

from audit.events import AuditEvent
from audit.models import AuditRecord
from authserver.flows import register_client
from authserver.flows.end_grants import block_client
from authserver.flows.forget_clients import forget_unused
from authserver.models import (
    Consent,
    McpClient,
    PendingAuthorization,
    RegistrationToken,
    RequestCount,
    TokenFamily,
    hash_of_secret,
)
from oauthflow.protocol.secret import Secret
from tests.requirements import requirement

from .grants import make_client, make_consent, make_family

pytestmark = pytest.mark.django_db

PLAIN = {"client_name": "Notes", "redirect_uris": ["https://client.example.com/cb"]}
MANY = {"registrations_of_an_address": 1000}


def _post(client: Client, document: dict[str, Any], **headers: str) -> HttpResponse:
    return client.post("/oauth/register", json.dumps(document), content_type="application/json", headers=headers)


def _manage(client: Client, said: dict[str, Any], method: str, document: object = None, *, token: str = "") -> Any:
    path = said["registration_client_uri"].removeprefix(settings.PUBLIC_URL)
    authorization = {"Authorization": f"Bearer {token or said['registration_access_token']}"}
    body = {} if document is None else {"data": json.dumps(document), "content_type": "application/json"}
    return getattr(client, method)(path, headers=authorization, **body)


@requirement("X-10", "R-04")
def test_a_registration_answers_with_all_that_the_rfc_asks_for_and_keeps_hashes(client: Client) -> None:
    answer = _post(client, PLAIN | {"grant_types": ["authorization_code", "refresh_token"], "client_secret": "mine"})
    said = answer.json()
    assert answer.status_code == 201
    assert "no-store" in answer.headers["Cache-Control"]
    kept = McpClient.objects.get()
    assert said["client_id"] == kept.client_id
    assert not said["client_id"].startswith(("https://", "user:"))
    assert said["client_secret_expires_at"] == 0
    assert said["token_endpoint_auth_method"] == "client_secret_basic"
    assert said["redirect_uris"] == PLAIN["redirect_uris"]
    assert said["registration_client_uri"] == f"{settings.PUBLIC_URL}/oauth/register/{kept.client_id}"
    assert kept.client_secret_hash == hash_of_secret(Secret(said["client_secret"]))
    assert kept.registration_access_token_hash == hash_of_secret(Secret(said["registration_access_token"]))
    everything = str(McpClient.objects.values().get()) + str(list(AuditRecord.objects.values()))
    assert said["client_secret"] not in everything
    assert said["registration_access_token"] not in everything
    assert AuditRecord.objects.get(event=AuditEvent.CLIENT_REGISTERED).details["host"] == ["client.example.com"]


def test_a_public_client_gets_no_secret(client: Client) -> None:
    said = _post(client, PLAIN | {"token_endpoint_auth_method": "none"}).json()
    assert "client_secret" not in said
    assert "client_secret_expires_at" not in said


@requirement("AS02")
@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"{}", "application/json", "invalid_redirect_uri"),
        (b'{"redirect_uris":["http://a.example/"]}', "application/json", "invalid_redirect_uri"),
        (b"[]", "application/json", "invalid_client_metadata"),
        (b"\xff\xfe", "application/json", "invalid_client_metadata"),
        (b"redirect_uris=https%3A%2F%2Fa.example", "application/x-www-form-urlencoded", "invalid_client_metadata"),
        (json.dumps(PLAIN).encode(), "text/plain", "invalid_client_metadata"),
        (json.dumps(PLAIN | {"client_name": "n" * 65536}).encode(), "application/json", "invalid_client_metadata"),
        (json.dumps(PLAIN | {"client_name": "a\u202eb"}).encode(), "application/json", "invalid_client_metadata"),
    ],
)
def test_a_refused_registration_has_the_code_of_the_rfc_and_a_record(
    client: Client, body: bytes, content_type: str, code: str
) -> None:
    answer = client.generic("POST", "/oauth/register", body, content_type=content_type)
    assert (answer.status_code, answer.json()["error"]) == (400, code)
    assert not McpClient.objects.exists()
    if content_type == "application/json" and len(body) < 16384:
        assert AuditRecord.objects.get(event=AuditEvent.CLIENT_REGISTRATION_FAILED).details["code"] == code


@requirement("AS02", "U-01")
@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "[::1]"])
def test_keys_on_an_internal_host_are_refused(client: Client, host: str) -> None:
    keyed = PLAIN | {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": f"https://{host}/keys"}
    assert _post(client, keyed).json()["error"] == "invalid_client_metadata"


@requirement("X-10", "AS02")
def test_one_address_registers_ten_times_an_hour(client: Client) -> None:
    statuses = [_post(client, PLAIN, **{"X-Forwarded-For": f"203.0.113.{n}"}).status_code for n in range(12)]
    assert statuses == [201] * 10 + [429] * 2
    limited = _post(client, {})
    assert limited.json()["error"] == "temporarily_unavailable"
    assert 0 < int(limited.headers["Retry-After"]) <= 3600
    assert _post(Client(REMOTE_ADDR="198.51.100.7"), PLAIN).status_code == 201


@requirement("X-10", "AS02")
@override_settings(AUTHSERVER={"registrations_a_day": 3})
def test_all_addresses_together_are_limited_by_the_day(client: Client) -> None:
    statuses = [_post(Client(REMOTE_ADDR=f"198.51.100.{n}"), PLAIN).status_code for n in range(4)]
    assert statuses == [201, 201, 201, 429]


@requirement("X-10", "AS02")
@override_settings(AUTHSERVER=MANY | {"most_clients": 3})
def test_above_the_cap_the_oldest_unused_client_goes_and_used_ones_stay(client: Client) -> None:
    used, oldest, newer = (_post(client, PLAIN).json()["client_id"] for _ in range(3))
    McpClient.objects.filter(client_id=used).update(
        last_used_at=timezone.now(), created_at=timezone.now() - timedelta(9)
    )
    newest = _post(client, PLAIN).json()["client_id"]
    assert set(McpClient.objects.values_list("client_id", flat=True)) == {used, newer, newest}
    assert oldest not in McpClient.objects.values_list("client_id", flat=True)
    McpClient.objects.update(last_used_at=timezone.now())
    assert _post(client, PLAIN).status_code == 503
    assert McpClient.objects.count() == 3


@override_settings(AUTHSERVER={"registration": "off"})
def test_where_registration_is_off_nobody_registers_and_nothing_announces_it(client: Client) -> None:
    assert (_post(client, PLAIN).status_code, McpClient.objects.count()) == (403, 0)
    assert "registration_endpoint" not in client.get("/.well-known/oauth-authorization-server").json()


@override_settings(AUTHSERVER={"registration": "token"})
def test_where_registration_wants_a_token_only_a_valid_one_helps(client: Client) -> None:
    now = timezone.now()
    good = RegistrationToken.objects.create(name="team", token_hash=hash_of_secret(Secret("good")))
    RegistrationToken.objects.create(name="old", token_hash=hash_of_secret(Secret("old")), expires_at=now)
    RegistrationToken.objects.create(name="gone", token_hash=hash_of_secret(Secret("gone")), revoked_at=now)
    for token in ("", "bad", "old", "gone"):
        answer = _post(client, PLAIN, Authorization=f"Bearer {token}" if token else "")
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert _post(client, PLAIN, Authorization="Bearer good").status_code == 201
    good.refresh_from_db()
    assert good.last_used_at is not None


@override_settings(AUTHSERVER={"registration": "token"})
def test_nobody_fills_the_record_with_refused_registrations(client: Client) -> None:
    assert [_post(client, PLAIN).status_code for _ in range(15)] == [401] * 10 + [429] * 5
    assert AuditRecord.objects.filter(event=AuditEvent.CLIENT_REGISTRATION_FAILED).count() == 10


def test_a_client_that_is_blocked_while_it_changes_itself_stays_blocked(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _post(client, PLAIN).json()

    def block(metadata: object) -> None:
        block_client(McpClient.objects.get(), actor=None, now=timezone.now())

    monkeypatch.setattr(register_client, "_require_reachable_keys", block)
    answer = _manage(client, said, "put", PLAIN | {"client_id": said["client_id"], "client_name": "Other"})
    assert (answer.status_code, McpClient.objects.get().name) == (401, "Notes")
    assert McpClient.objects.get().blocked_at is not None


def test_the_address_of_a_registration_holds_nothing_odd(client: Client) -> None:
    assert client.get("/oauth/register/client%00", headers={"Authorization": "Bearer x"}).status_code == 404


@requirement("X-10")
def test_a_registration_is_read_by_its_token_and_by_no_other(client: Client) -> None:
    said, other = _post(client, PLAIN).json(), _post(client, PLAIN).json()
    shown = _manage(client, said, "get").json()
    assert shown["client_id"] == said["client_id"]
    assert "client_secret" not in shown
    for token in (other["registration_access_token"], "x", said["client_secret"]):
        assert _manage(client, said, "get", token=token).status_code == 401
    unknown = said | {"registration_client_uri": f"{settings.PUBLIC_URL}/oauth/register/client_unknown"}
    assert _manage(client, unknown, "get").status_code == 401
    assert client.get(f"/oauth/register/{said['client_id']}").status_code == 401


@requirement("X-10", "AS04")
def test_a_changed_registration_ends_what_people_allowed_and_an_equal_one_does_not(client: Client, alice: User) -> None:
    said = _post(client, PLAIN).json()
    row = McpClient.objects.get()
    family = make_family(make_consent(alice, row))
    assert _manage(client, said, "put", PLAIN | {"client_id": said["client_id"]}).status_code == 200
    family.refresh_from_db()
    assert family.ended_at is None
    changed = PLAIN | {"client_id": said["client_id"], "redirect_uris": ["https://other.example.com/cb"]}
    assert _manage(client, said, "put", changed).json()["redirect_uris"] == ["https://other.example.com/cb"]
    family.refresh_from_db()
    assert family.ended_at is not None
    assert not Consent.objects.standing().exists()
    assert AuditRecord.objects.filter(event=AuditEvent.CLIENT_GRANT_REVOKED, reason="client_changed").count() == 1


def test_a_verified_registration_that_changes_is_no_longer_verified(client: Client) -> None:
    said = _post(client, PLAIN).json()
    McpClient.objects.update(verified=True)
    _manage(client, said, "put", PLAIN | {"client_id": said["client_id"]})
    assert McpClient.objects.get().verified
    _manage(client, said, "put", PLAIN | {"client_id": said["client_id"], "client_name": "Claude"})
    assert not McpClient.objects.get().verified


@pytest.mark.parametrize(
    "document",
    [
        PLAIN,
        PLAIN | {"client_id": "another"},
        PLAIN | {"client_id": None},
        {"client_id": "own"},
        PLAIN | {"client_id": "own", "registration_access_token": "x"},
        PLAIN | {"client_id": "own", "client_id_issued_at": 1},
        PLAIN | {"client_id": "own", "client_secret": "chosen"},
        PLAIN | {"client_id": "own", "client_secret": 1},
        PLAIN | {"client_id": "own", "redirect_uris": ["javascript:alert(1)"]},
    ],
)
def test_an_update_out_of_line_changes_nothing(client: Client, document: dict[str, Any]) -> None:
    said = _post(client, PLAIN).json()
    before = McpClient.objects.values().get()
    own = {name: said["client_id"] if value == "own" else value for name, value in document.items()}
    assert _manage(client, said, "put", own).status_code == 400
    assert McpClient.objects.values().get() == before


def test_a_client_that_becomes_confidential_gets_a_secret(client: Client) -> None:
    said = _post(client, PLAIN | {"token_endpoint_auth_method": "none"}).json()
    now = PLAIN | {"client_id": said["client_id"], "token_endpoint_auth_method": "client_secret_post"}
    secret = _manage(client, said, "put", now).json()["client_secret"]
    assert McpClient.objects.get().client_secret_hash == hash_of_secret(Secret(secret))
    again = _manage(client, said, "put", now | {"client_secret": secret})
    assert (again.status_code, "client_secret" in again.json()) == (200, False)


@requirement("X-10")
def test_a_client_that_deletes_itself_is_unknown_and_its_tokens_are_dead(client: Client, alice: User) -> None:
    said = _post(client, PLAIN).json()
    family = make_family(make_consent(alice, McpClient.objects.get()))
    assert _manage(client, said, "delete").status_code == 204
    family.refresh_from_db()
    assert family.ended_at is not None
    assert _manage(client, said, "get").status_code == 401
    assert not McpClient.objects.usable(now=timezone.now()).exists()


@requirement("X-10", "AS02")
def test_unused_clients_go_after_a_day_and_idle_ones_end_after_ninety(alice: User) -> None:
    now = timezone.now()
    for name, created, used, refreshed in (
        ("fresh", 0.9, None, None),
        ("never", 1.1, None, None),
        ("used", 100, 80, None),
        ("idle", 100, 91, None),
        ("renewed", 100, 91, 1),
    ):
        row = make_client(name, kind=McpClient.Kind.DYNAMIC)
        last = None if used is None else now - timedelta(days=used)
        McpClient.objects.filter(pk=row.pk).update(created_at=now - timedelta(days=created), last_used_at=last)
        if used is not None:
            rotated = None if refreshed is None else now - timedelta(days=refreshed)
            make_family(make_consent(alice, row), issued_at=now - timedelta(days=used), rotated_at=rotated)
    by_hand = make_client("by hand")
    McpClient.objects.filter(pk=by_hand.pk).update(created_at=now - timedelta(days=400))
    assert forget_unused(now=now) == 2
    usable = McpClient.objects.usable(now=now).values_list("client_id", flat=True)
    assert set(usable) == {"fresh", "used", "renewed", "by hand"}
    assert TokenFamily.objects.get(client__client_id="idle").ended_at is not None
    assert forget_unused(now=now + timedelta(days=2)) == 1
    assert not McpClient.objects.filter(client_id="idle").exists()


def test_a_client_that_was_never_used_is_unknown_from_its_last_minute_on(client: Client) -> None:
    said = _post(client, PLAIN).json()
    McpClient.objects.update(expires_at=timezone.now())
    assert _manage(client, said, "get").status_code == 401


def test_counters_and_questions_that_are_over_are_forgotten(client: Client, alice: User) -> None:
    _post(client, PLAIN)
    row, now = McpClient.objects.get(), timezone.now()
    PendingAuthorization.objects.create(
        user=alice, browser_hash="x", client=row, redirect_uri="x", registered_redirect_uri="x", resource="x",
        code_challenge="x", created_at=now, expires_at=now,
    )  # fmt: skip
    forget_unused(now=now + timedelta(minutes=30))
    assert PendingAuthorization.objects.count() == 1
    forget_unused(now=now + timedelta(days=2))
    assert (RequestCount.objects.count(), PendingAuthorization.objects.count()) == (0, 0)


@requirement("X-11")
def test_scripts_of_any_site_may_register_but_not_with_a_persons_cookies(client: Client) -> None:
    origin = {"Origin": "https://inspector.example"}
    preflight = client.options("/oauth/register", headers=origin | {"Access-Control-Request-Method": "POST"})
    assert (preflight.status_code, preflight.headers["Access-Control-Allow-Origin"]) == (204, "*")
    answer = _post(client, PLAIN, **origin)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Set-Cookie" not in answer.headers
