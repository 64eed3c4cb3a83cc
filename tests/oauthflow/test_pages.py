"""My connections: what a person sees, and what the buttons do."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db.models import F
from django.test import Client
from django.utils import timezone

from connections.api_tokens import issue_api_token
from connections.models import ApiToken, Connection, McpServer, TokenSet
from connections.services import connection_for, shared_connection
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.templatetags.moments import distance
from oauthflow.views.words import describe_scopes, sentence_for
from tests.fakes.world import World

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(alice: User, client: Client) -> Client:
    client.force_login(alice)
    return client


def _page(browser: Client, path: str = "/connections/") -> str:
    answer = browser.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize("path", ["/connections/", "/connect/notes", "/oauth/paste"])
def test_somebody_unknown_signs_in_and_comes_back_to_the_page(path: str, client: Client) -> None:
    answer = client.get(path)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/accounts/login/?next={path}"


def test_a_form_that_somebody_unknown_sends_is_not_repeated_after_the_sign_in(client: Client) -> None:
    answer = client.post(f"/connections/{uuid4()}/disconnect")
    assert answer.headers["Location"] == "/accounts/login/?next=/connections/"


def test_a_page_is_kept_by_nobody_and_runs_nothing_of_others(browser: Client) -> None:
    headers = browser.get("/connections/").headers
    assert "no-store" in headers["Cache-Control"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe-inline" not in headers["Content-Security-Policy"]


def test_of_several_accounts_the_pages_name_the_one_that_programs_use(
    browser: Client, world: World, alice: User
) -> None:
    world.connect(alice, now=timezone.now())
    assert "Default" not in _page(browser)
    assert "name none" not in _page(browser, "/connect/notes")
    work = world.connection(alice, label="work")
    params, cookies = world.come_back(work, user=alice, now=timezone.now())
    complete_authorization(params=params, user=alice, cookies=cookies, now=timezone.now() + timedelta(seconds=1))

    page = _page(browser)
    assert page.count("Default") == 1
    assert page.index("work") < page.index("Default")
    assert "Programs that name none use work" in _page(browser, "/connect/notes")
    Connection.objects.filter(pk=work.pk).update(status="revoked")
    assert page.index("My account") < _page(browser).index("Default") < _page(browser).index(">work<")


def test_the_pages_hold_no_inline_code(browser: Client, world: World, alice: User) -> None:
    connection = world.connect(alice, now=timezone.now())
    for path in ("/connections/", f"/connections/{connection.pk}", "/connect/notes", "/oauth/paste"):
        page = _page(browser, path)
        assert "style=" not in page
        assert "<style" not in page
        assert " onclick" not in page
        assert page.count("<script") == page.count("<script src=")


def test_without_servers_the_page_says_what_to_do(browser: Client, administrator: User) -> None:
    assert "Ask an administrator" in _page(browser)
    browser.force_login(administrator)
    assert "/admin/connections/mcpserver/add/" in _page(browser)


def test_the_end_of_renewing_is_shown_where_it_is_known(browser: Client, world: World, alice: User) -> None:
    now = timezone.now()
    world.connect(alice, now=now)
    ends = {"refresh_ends_at": datetime(2031, 5, 17, tzinfo=UTC), "refresh_end_known_since": now - timedelta(days=1)}
    TokenSet.objects.update(**ends)
    assert re.search(r"renews itself until\s+<time[^>]+2031-05-17", _page(browser))
    TokenSet.objects.update(refresh_end_known_since=F("obtained_at"))
    assert "renews itself until" not in _page(browser)


def test_a_connected_server_shows_state_scopes_end_and_buttons(browser: Client, world: World, alice: User) -> None:
    world.mcp_server.scopes_supported = ["notes:read"]
    connection = world.connect(alice, now=timezone.now())
    page = _page(browser)
    assert "Connected" in page
    assert "Read notes" in page
    assert "renews itself" in page
    for action in ("test", "disconnect"):
        assert f"/connections/{connection.pk}/{action}" in page


def test_names_from_elsewhere_are_text_and_nothing_else(browser: Client, world: World) -> None:
    world.server("evil", name="<script>alert(1)</script>", description='"><img src=x onerror=alert(1)>')
    page = _page(browser)
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def test_a_server_for_others_is_neither_listed_nor_linked(browser: Client, world: World) -> None:
    server = world.server("secret")
    server.groups.add(Group.objects.create(name="others"))
    assert "/connect/secret" not in _page(browser)
    assert browser.get("/connect/secret").status_code == 404


def test_a_connection_stays_listed_when_its_server_is_withdrawn(browser: Client, world: World, alice: User) -> None:
    world.connect(alice, now=timezone.now())
    McpServer.objects.update(status=McpServer.Status.INACTIVE)
    page = _page(browser)
    assert "No longer offered" in page
    assert "/disconnect" in page
    assert "/connect/notes" not in page


def test_the_list_takes_a_fixed_number_of_queries(
    browser: Client, world: World, alice: User, django_assert_max_num_queries: object
) -> None:
    for number in range(6):
        connection = world.connection(alice, slug=f"notes-{number}")
        Connection.objects.filter(pk=connection.pk).update(status=Connection.Status.ACTIVE)
    with django_assert_max_num_queries(12):
        _page(browser)


@pytest.mark.parametrize("action", ["", "/test", "/disconnect", "/remove", "/reconnect", "/refresh"])
def test_another_persons_connection_is_as_unknown_as_none(
    action: str, browser: Client, world: World, bob: User
) -> None:
    theirs = world.connect(bob, now=timezone.now())
    send = browser.post if action else browser.get
    foreign, unknown = send(f"/connections/{theirs.pk}{action}"), send(f"/connections/{uuid4()}{action}")
    assert foreign.status_code == unknown.status_code == 404
    assert TokenSet.objects.filter(connection=theirs).exists()


def test_reconnect_goes_to_the_service_at_once_with_a_cookie(browser: Client, world: World, alice: User) -> None:
    connection = world.connect(alice, now=timezone.now())
    answer = browser.post(f"/connections/{connection.pk}/reconnect")
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("https://as.example/authorize?")
    assert any(name.startswith("mcp_flow_") for name in answer.cookies)


def test_a_reconnect_that_cannot_start_is_explained(browser: Client, world: World, alice: User) -> None:
    connection = world.connection(alice)
    world.authorization_server.advertises_pkce = False
    answer = browser.post(f"/connections/{connection.pk}/reconnect")
    assert answer.status_code == 422
    assert 'data-code="pkce_unsupported"' in answer.content.decode()


def test_disconnecting_revokes_upstream_and_forgets(browser: Client, world: World, alice: User) -> None:
    connection = world.connect(alice, now=timezone.now())
    answer = browser.post(f"/connections/{connection.pk}/disconnect", {"next": "/connections/"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/connections/")
    assert not TokenSet.objects.exists()
    assert len(world.authorization_server.revocations) >= 1
    assert "is disconnected" in _page(browser)


def test_the_history_of_what_was_disconnected_stays_in_reach(browser: Client, world: World, alice: User) -> None:
    connection = world.connect(alice, now=timezone.now())
    browser.post(f"/connections/{connection.pk}/disconnect")
    assert f'href="/connections/{connection.pk}"' in _page(browser)


def test_an_account_with_a_name_that_was_never_connected_can_be_removed(
    browser: Client, world: World, alice: User
) -> None:
    world.connect(alice, now=timezone.now())
    assert "/remove" not in _page(browser)
    begun = connection_for(alice, McpServer.objects.get(), label="work", actor=alice)
    assert f"/connections/{begun.pk}/remove" in _page(browser)
    answer = browser.post(f"/connections/{begun.pk}/remove")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/connections/")
    assert not Connection.objects.filter(pk=begun.pk).exists()
    assert "“work” is removed" in _page(browser)


def test_what_is_connected_by_now_is_not_removed(browser: Client, world: World, alice: User) -> None:
    connection = world.connect(alice, now=timezone.now())
    answer = browser.post(f"/connections/{connection.pk}/remove", follow=True)
    assert "is connected; disconnect it first" in answer.content.decode()
    assert TokenSet.objects.exists()


def test_the_way_back_is_never_another_site(browser: Client, world: World, alice: User) -> None:
    connection = world.connect(alice, now=timezone.now())
    for named in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
        answer = browser.post(f"/connections/{connection.pk}/refresh", {"next": named})
        assert answer.headers["Location"] == f"/connections/{connection.pk}"


def test_renewing_by_hand_fetches_new_tokens(browser: Client, world: World, alice: User) -> None:
    connection = world.connect(alice, now=timezone.now())
    browser.post(f"/connections/{connection.pk}/refresh")
    assert len(world.authorization_server.refresh_requests) == 1


def test_a_shared_connection_is_used_by_all_and_managed_by_few(browser: Client, world: World, alice: User) -> None:
    server = world.server(connection_policy="shared")
    connection = shared_connection(server)
    Connection.objects.filter(pk=connection.pk).update(status=Connection.Status.ACTIVE)
    assert "Shared" in _page(browser)
    assert browser.post(f"/connections/{connection.pk}/disconnect").status_code == 403
    alice.user_permissions.add(Permission.objects.get(codename="manage_shared_connection"))
    assert browser.post(f"/connections/{connection.pk}/disconnect").status_code == 303


def test_a_program_that_acts_for_me_can_be_stopped(browser: Client, alice: User) -> None:
    row = issue_api_token(alice, scopes=["tools:call"], name="Nightly report", now=timezone.now()).row
    assert "Nightly report" in _page(browser)
    assert browser.post(f"/connections/api-tokens/{row.pk}/revoke").status_code == 303
    assert ApiToken.objects.get(pk=row.pk).revoked_at is not None


def test_nobody_stops_the_programs_of_others(browser: Client, bob: User) -> None:
    row = issue_api_token(bob, scopes=["tools:call"], name="theirs", now=timezone.now()).row
    assert browser.post(f"/connections/api-tokens/{row.pk}/revoke").status_code == 404
    assert ApiToken.objects.get(pk=row.pk).revoked_at is None


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ("offline_access", "Stay connected while you are away"),
        ("notes:read", "Read notes"),
        ("read:jira-work", "Read jira work"),
        ("files.write", "Change files"),
        ("https://graph.example/Mail.Read", ""),
        ("repo", ""),
        ("a:b:read", ""),
    ],
)
def test_scopes_are_put_into_words_where_they_read_so(scope: str, words: str) -> None:
    assert describe_scopes(scope)[0].words == words


def test_a_reason_is_our_sentence_or_the_persons_own_words() -> None:
    assert sentence_for("invalid_grant") == "The access has ended. Please reconnect."
    assert sentence_for("left the company") == "left the company"


@pytest.mark.parametrize(
    ("seconds", "words"), [(-30, "just now"), (30, "in a moment"), (-600, "10 minutes ago"), (7300, "in 2 hours")]
)
def test_times_are_said_in_their_largest_unit(seconds: int, words: str) -> None:
    now = timezone.now()
    assert distance(now + timedelta(seconds=seconds), now=now) == words
