"""The audit record over REST: who sees what, filters, pages, files."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

from audit.events import AuditEvent
from audit.models import AuditRecord
from audit.record import record
from connections.models.api_token import ApiScope
from tests.rest_clients import anonymous, in_browser, with_token

from .recorded import recorded

pytestmark = pytest.mark.django_db

_URL = "/api/v1/audit/events"


@pytest.fixture
def auditor(bob: User) -> APIClient:
    bob.user_permissions.add(Permission.objects.get(codename="view_auditrecord"))
    return with_token(bob, ApiScope.AUDIT_READ)


def _sequences(client: APIClient, **filters: Any) -> list[int]:
    answer = client.get(_URL, filters)
    assert answer.status_code == 200, answer.json()
    return [row["sequence"] for row in answer.json()["results"]]


def test_a_user_sees_only_what_they_did_themselves(alice: User, bob: User) -> None:
    record(AuditEvent.TOKEN_RELEASED, actor=alice)
    record(AuditEvent.TOKEN_RELEASED, actor=bob)
    record(AuditEvent.TOKEN_REFRESHED)
    assert _sequences(in_browser(alice)) == [1]


def test_whoever_may_view_audit_records_sees_all_newest_first(auditor: APIClient, alice: User) -> None:
    for actor in (alice, None, alice):
        record(AuditEvent.TOKEN_RELEASED, actor=actor)
    assert _sequences(auditor) == [3, 2, 1]


def test_naming_somebody_else_as_user_shows_nothing_to_a_user_without_permission(alice: User, bob: User) -> None:
    record(AuditEvent.TOKEN_RELEASED, actor=bob)
    assert _sequences(in_browser(alice), user=bob.pk) == []


def test_a_token_needs_the_scope(alice: User) -> None:
    answer = with_token(alice, ApiScope.SERVERS_READ).get(_URL)
    assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")


def test_without_credentials_there_is_a_challenge(db: None) -> None:
    answer = anonymous().get(_URL)
    assert (answer.status_code, answer.json()["error"]) == (401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_each_filter_selects(auditor: APIClient, alice: User) -> None:
    first = recorded(AuditEvent.TOKEN_RELEASED, actor=alice, server="notion")
    second = recorded(AuditEvent.TOKEN_REFRESHED, connection="6a1f4f2e-55a7-4b35-9e0c-04a1d1e8d3b5")
    assert _sequences(auditor, event="token.released") == [1]
    assert _sequences(auditor, user=alice.pk) == [1]
    assert _sequences(auditor, user="system") == [2]
    assert _sequences(auditor, server="notion") == [1]
    assert _sequences(auditor, connection="6a1f4f2e-55a7-4b35-9e0c-04a1d1e8d3b5") == [2]
    assert _sequences(auditor, **{"from": second.at.isoformat()}) == [2]
    assert _sequences(auditor, to=second.at.isoformat()) == [1]
    assert first.at < second.at


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"event": "token.stolen"}, "event"),
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-13-01"}, "to"),
        ({"connection": "1"}, "connection"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "0"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"actor": "1"}, "actor"),
        ({"user": ["1", "2"]}, "user"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused_by_name(alice: User, filters: dict[str, Any], field: str) -> None:
    answer = in_browser(alice).get(_URL, filters)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert list(answer.json()["fields"]) == [field]


def test_pages_follow_each_other_without_gap_or_repetition_while_records_are_added(auditor: APIClient) -> None:
    for _ in range(5):
        record(AuditEvent.TOKEN_REFRESHED)
    seen, cursor = [], ""
    while cursor is not None:
        answer = auditor.get(_URL, {"limit": 2, **({"cursor": cursor} if cursor else {})})
        seen += [row["sequence"] for row in answer.json()["results"]]
        cursor = answer.json()["next_cursor"]
        record(AuditEvent.TOKEN_REFRESHED)
    assert seen == [5, 4, 3, 2, 1]


def test_a_file_says_in_its_link_where_it_goes_on(auditor: APIClient) -> None:
    for _ in range(3):
        record(AuditEvent.TOKEN_REFRESHED)
    answer = auditor.get(_URL, {"format": "csv", "limit": 2})
    assert answer.headers["Link"] == '<?format=csv&limit=2&cursor=2>; rel="next"'


def test_comma_separated_values_have_a_head_and_a_line_for_each_record(auditor: APIClient) -> None:
    record(AuditEvent.TOKEN_RELEASED, details={"scope": "read, write"})
    answer = auditor.get(_URL, {"format": "csv"})
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert [row["event"] for row in rows] == ["token.released"]
    assert json.loads(rows[0]["details"]) == {"scope": "read, write"}


@pytest.mark.parametrize("reason", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"])
def test_a_cell_is_never_a_formula(auditor: APIClient, reason: str) -> None:
    record(AuditEvent.CREDENTIALS_REVOKED, reason=reason)
    answer = auditor.get(_URL, {"format": "csv"})
    assert next(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))["reason"] == f"'{reason}"


def test_json_lines_have_one_object_on_each_line(auditor: APIClient) -> None:
    record(AuditEvent.TOKEN_RELEASED, reason="one\ntwo")
    record(AuditEvent.TOKEN_RELEASED)
    answer = auditor.get(_URL, {"format": "jsonl"})
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line)["sequence"] for line in answer.content.decode().splitlines()] == [2, 1]


def test_a_file_that_was_taken_is_recorded_and_a_look_is_not(auditor: APIClient) -> None:
    record(AuditEvent.TOKEN_REFRESHED)
    auditor.get(_URL)
    assert AuditRecord.objects.count() == 1
    auditor.get(_URL, {"format": "jsonl"})
    taken = AuditRecord.objects.get(event="audit.exported")
    assert (taken.details, taken.client) == ({"format": "jsonl", "count": 1}, "laptop")


def test_a_refusal_is_json_also_where_a_file_was_asked_for(alice: User) -> None:
    answer = in_browser(alice).get(_URL, {"format": "csv", "event": "x"})
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/json"


def test_no_answer_shows_the_codes_of_the_chain(auditor: APIClient) -> None:
    kept = recorded(AuditEvent.TOKEN_REFRESHED)
    for kind in ("json", "csv", "jsonl"):
        assert kept.mac not in auditor.get(_URL, {"format": kind}).content.decode()


def test_nothing_of_it_is_kept_in_a_cache(auditor: APIClient) -> None:
    for kind in ("json", "csv", "nonsense"):
        assert auditor.get(_URL, {"format": kind}).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_records_cannot_be_written_over_rest(administrator: User, method: str) -> None:
    answer = getattr(in_browser(administrator), method)(_URL, {})
    assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
