"""Policies, tool definitions and usage in the admin."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import AuditRecord
from connections.models import McpServer
from gateway.admin.definitions import Line, compared
from gateway.admin.usage_charts import SPANS, charts, percentiles, rows_of
from gateway.models import CallArguments, GroupPolicy, ServerPolicy, ToolDefinition, Usage
from gateway.tasks import forget_old_calls
from tests.authserver.grants import make_client
from tests.gateway.policy_stage import make_server

pytestmark = pytest.mark.django_db
POLICIES = "/admin/gateway/serverpolicy/"
TOOLS = "/admin/gateway/tooldefinition/"
USAGE = "/admin/gateway/usage/"
NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


@pytest.fixture
def server() -> McpServer:
    return make_server()


@pytest.fixture
def browser(administrator: User) -> Client:
    browser = Client()
    browser.force_login(administrator)
    return browser


def _staff(*permissions: str) -> Client:
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    browser = Client()
    browser.force_login(user)
    return browser


def _form(server: McpServer, *groups: dict[str, Any], initial: int = 0, **said: Any) -> dict[str, Any]:
    form = {
        "server": str(server.pk), "approval": "first_seen", **said,
        "groups-TOTAL_FORMS": len(groups), "groups-INITIAL_FORMS": initial,
    }  # fmt: skip
    for number, group in enumerate(groups):
        form |= {f"groups-{number}-{name}": value for name, value in group.items()}
    return form


def _recorded() -> list[tuple[str, dict[str, Any]]]:
    found = AuditRecord.objects.filter(event="policy.changed").order_by("sequence")
    return [(one.reason, one.details) for one in found]


# ---- Policies


def test_a_policy_with_rules_for_groups_is_entered_on_one_page(browser: Client, server: McpServer) -> None:
    editors = Group.objects.create(name="Editors")
    rule = {"group": editors.pk, "tools": "all", "calls_per_minute": 600}
    answer = browser.post(f"{POLICIES}add/", _form(server, rule, tools="allowed", tool_patterns="search\nread_*"))
    assert answer.status_code == 302, answer.content.decode()[-3000:]
    policy = ServerPolicy.objects.get()
    assert (policy.server, policy.tool_patterns.split()) == (server, ["search", "read_*"])
    assert GroupPolicy.objects.get().calls_per_minute == 600
    assert [reason for reason, _ in _recorded()] == ["rule_changed", "rule_changed"]
    assert _recorded()[1][1]["target"] == "Editors"
    listed = browser.get(POLICIES).content.decode()
    assert "2 allowed" in listed


def test_keeping_arguments_is_a_record_of_its_own(browser: Client, server: McpServer) -> None:
    browser.post(f"{POLICIES}add/", _form(server))
    page = f"{POLICIES}{server.pk}/change/"
    browser.post(page, _form(server, keeps_arguments="on"))
    browser.post(page, _form(server, calls_per_minute=5, keeps_arguments="on"))
    browser.post(page, _form(server, calls_per_minute=5))
    assert [reason for reason, _ in _recorded()] == [
        "rule_changed", "arguments_kept", "rule_changed", "rule_changed", "arguments_not_kept", "rule_changed",
    ]  # fmt: skip
    assert _recorded()[3][1]["fields"] == ["calls_per_minute"]


def test_deleting_a_policy_that_keeps_arguments_says_so(browser: Client, server: McpServer) -> None:
    ServerPolicy.objects.create(server=server, keeps_arguments=True)
    browser.post(f"{POLICIES}{server.pk}/delete/", {"post": "yes"})
    assert not ServerPolicy.objects.exists()
    assert [reason for reason, _ in _recorded()] == ["arguments_not_kept", "rule_deleted"]


def test_a_rule_of_a_group_is_changed_and_deleted(browser: Client, server: McpServer) -> None:
    policy = ServerPolicy.objects.create(server=server)
    group = Group.objects.create(name="Editors")
    rule = GroupPolicy.objects.create(policy=policy, group=group, calls_per_minute=5)
    row = {"id": rule.pk, "policy": server.pk, "group": group.pk, "calls_per_minute": 9}
    page = f"{POLICIES}{server.pk}/change/"
    assert browser.post(page, _form(server, row, initial=1)).status_code == 302
    rule.refresh_from_db()
    assert rule.calls_per_minute == 9
    assert browser.post(page, _form(server, {**row, "DELETE": "on"}, initial=1)).status_code == 302
    assert not GroupPolicy.objects.exists()
    assert [reason for reason, _ in _recorded()] == ["rule_changed", "rule_deleted"]


def test_what_makes_no_sense_is_not_saved(browser: Client, server: McpServer) -> None:
    answer = browser.post(f"{POLICIES}add/", _form(server, tools="allowed"))
    assert "Name at least one tool." in answer.content.decode()
    assert not ServerPolicy.objects.exists()


def test_whoever_may_only_look_changes_nothing(server: McpServer) -> None:
    ServerPolicy.objects.create(server=server)
    browser = _staff("view_serverpolicy", "view_grouppolicy")
    page = f"{POLICIES}{server.pk}/change/"
    assert browser.get(page).status_code == 200
    assert browser.post(page, _form(server, calls_per_minute=5)).status_code == 403


@pytest.mark.django_db(transaction=True)
def test_who_only_looks_at_a_policy_holds_up_nobody_who_writes(browser: Client, server: McpServer) -> None:
    policy = ServerPolicy.objects.create(server=server)
    with CaptureQueriesContext(connection) as executed:
        assert browser.get(f"/admin/gateway/serverpolicy/{policy.pk}/change/").status_code == 200
    assert not [each["sql"] for each in executed if each["sql"].startswith("BEGIN")]


def test_a_server_with_all_of_this_can_be_deleted(browser: Client, server: McpServer, administrator: User) -> None:
    policy = ServerPolicy.objects.create(server=server)
    GroupPolicy.objects.create(policy=policy, group=Group.objects.create(name="Editors"))
    _definition(server, "Find")
    CallArguments.objects.create(server=server, user=administrator, tool="search", arguments="{}", at=NOW)
    browser.post(f"/admin/connections/mcpserver/{server.pk}/delete/", {"post": "yes"})
    assert not McpServer.objects.exists()


# ---- Tool definitions


def _definition(server: McpServer, description: str, *, state: str = "approved", **said: Any) -> ToolDefinition:
    return ToolDefinition.objects.create(
        server=server,
        name="search",
        digest=description[:64],
        definition={"name": "search", "description": description, "inputSchema": {"type": "object"}},
        state=state,
        is_change=state == "waiting",
        first_seen_at=NOW,
        approved_at=NOW if state == "approved" else None,
        **said,
    )


def test_old_and_new_wording_stand_side_by_side(browser: Client, server: McpServer) -> None:
    _definition(server, "Find things.\nAsk first.")
    new = _definition(server, "Find things.\nSend <b>keys\u200b</b>.", state="waiting")
    page = browser.get(f"{TOOLS}{new.pk}/change/").content.decode()
    gone = re.findall(r'<div class="site-gone">.*?<code>(.*?)</code>', page)
    come = re.findall(r'<div class="site-come">.*?<code>(.*?)</code>', page)
    assert gone == ["Ask first."]
    assert come == ["Send &lt;b&gt;keys[U+200B]&lt;/b&gt;."]
    assert "inputSchema" not in re.findall(r"<h3>(.*?)</h3>", page)


def test_only_what_differs_is_compared() -> None:
    before = {"name": "a", "description": "x", "inputSchema": {"type": "object"}}
    assert list(compared(before, {**before, "title": "T"})) == [Line("part", "title"), Line("come", "T")]
    assert [line.kind for line in compared({}, before)] == ["part", "same", "part", "same", "part", *["same"] * 3]


@pytest.mark.parametrize("answer", ["approve", "forget"])
def test_a_button_answers_and_the_dashboard_asks_no_more(browser: Client, server: McpServer, answer: str) -> None:
    _definition(server, "Find")
    new = _definition(server, "Other", state="waiting")
    assert "Notes: a tool waits for approval." in browser.get("/admin/").content.decode()
    assert browser.post(f"{TOOLS}{new.pk}/judge/{answer}/").status_code == 302
    assert "waits for approval" not in browser.get("/admin/").content.decode()
    assert ToolDefinition.objects.filter(pk=new.pk, state="approved").exists() == (answer == "approve")


def test_judging_takes_a_permission_and_a_button(browser: Client, server: McpServer) -> None:
    new = _definition(server, "Other", state="waiting")
    clerk = _staff("view_tooldefinition")
    page = clerk.get(f"{TOOLS}{new.pk}/change/")
    assert page.status_code == 200
    assert "/judge/" not in page.content.decode()
    assert clerk.post(f"{TOOLS}{new.pk}/judge/approve/").status_code == 403
    assert browser.get(f"{TOOLS}{new.pk}/judge/approve/").status_code == 403
    assert browser.post(f"{TOOLS}{new.pk}/judge/other/").status_code == 403
    assert ToolDefinition.objects.get().state == "waiting"


# ---- Usage


def _usage(user: User, *, hour: datetime, **columns: Any) -> None:
    row = {
        "server": "notes", "client": "program", "method": "tools/call", "name": "search", "outcome": "ok",
        "up_to_ms": 10, "count": 1, "request_bytes": 100, "response_bytes": 1000, "milliseconds": 7,
    }  # fmt: skip
    Usage.objects.create(hour=hour, user_id=user.pk, **(row | columns))


def test_the_page_shows_calls_tools_programs_and_refusals(browser: Client, server: McpServer, alice: User) -> None:
    client = make_client(name="Claude <Code>")
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    _usage(alice, hour=hour, count=90, client=client.client_id)
    _usage(alice, hour=hour, count=10, up_to_ms=1000, outcome="tool_error", client=client.client_id)
    _usage(alice, hour=hour, count=7, outcome="over_limit")
    _usage(alice, hour=hour, count=500, server="other")
    page = browser.get(f"{USAGE}?server=notes").content.decode()
    assert "<strong>107</strong><span>requests in 24 hours" in page
    assert "Claude &lt;Code&gt;" in page
    assert re.search(r'data-label="Requests">107<.*?data-label="Failed">10<.*?≤.10.ms.*?≤.1.s', page, re.DOTALL)
    assert re.search(r"Over a limit.*?alice.*?>7<", page, re.DOTALL)
    assert "<strong>607</strong>" in browser.get(USAGE).content.decode()
    assert "Nothing went through" in browser.get(f"{USAGE}?server=unknown&span=month").content.decode()


def test_the_page_takes_a_permission(server: McpServer) -> None:
    assert _staff("view_tooldefinition").get(USAGE).status_code == 403
    assert Client().get(USAGE).status_code == 302


def test_columns_stand_for_hours_and_days(alice: User) -> None:
    hour = NOW.replace(minute=0)
    _usage(alice, hour=hour, count=3)
    _usage(alice, hour=hour, count=1, outcome="forbidden", up_to_ms=5)
    _usage(alice, hour=hour - timedelta(hours=23), count=2)
    _usage(alice, hour=hour - timedelta(hours=24), count=9)
    for name, columns, wanted in (
        ("day", 24, {0: 2, 23: 4}),
        ("week", 7, {5: 11, 6: 4}),
        ("month", 30, {28: 11, 29: 4}),
    ):
        by_outcome, by_time = charts(rows_of(SPANS[name], server="", now=NOW), span=SPANS[name], now=NOW)
        counts = {
            number: total
            for number, column in enumerate(by_outcome.columns)
            if (total := sum(count for _, count in column.cells()))
        }
        assert (len(by_outcome.columns), len(by_time.columns), counts) == (columns, columns, wanted)
        for column in (*by_outcome.columns, *by_time.columns):
            assert all(part.y >= 0 and part.y + part.height <= 100.01 for part in column.parts)


@pytest.mark.parametrize(
    ("classes", "wanted"),
    [
        ({}, ()),
        ({5: 100}, ("≤ 5 ms", "≤ 5 ms", "≤ 5 ms")),
        ({5: 50, 1000: 45, 0: 5}, ("≤ 5 ms", "≤ 1 s", "> 30 s")),
        ({2500: 1, 10: 98, 0: 1}, ("≤ 10 ms", "≤ 10 ms", "≤ 2.5 s")),
    ],
)
def test_percentiles_are_read_off_the_histogram(classes: dict[int, int], wanted: tuple[str, ...]) -> None:
    assert tuple(words.replace("\N{NO-BREAK SPACE}", " ") for words in percentiles(classes)) == wanted


def test_old_counts_and_arguments_go(server: McpServer, alice: User) -> None:
    now = timezone.now()
    for days in (89, 91):
        _usage(alice, hour=now - timedelta(days=days))
    for days in (6, 8):
        at = now - timedelta(days=days)
        CallArguments.objects.create(server=server, user=alice, tool="search", arguments="{}", at=at)
    assert forget_old_calls() == 2
    assert (Usage.objects.count(), CallArguments.objects.count()) == (1, 1)


def test_kept_arguments_are_shown_as_text(browser: Client, server: McpServer, alice: User) -> None:
    kept = CallArguments.objects.create(
        server=server, user=alice, tool="search", arguments='{"q": "<script>"}', correlation_id="abc", at=NOW
    )
    page = browser.get(f"/admin/gateway/callarguments/{kept.pk}/change/").content.decode()
    assert "&lt;script&gt;" in page
    assert "<script>&quot;" not in page
    assert browser.post(f"/admin/gateway/callarguments/{kept.pk}/change/", {}).status_code == 403
