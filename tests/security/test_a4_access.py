"""What other people, other sites and hostile texts get out of the pages, the admin and GraphQL. Security notes A4."""

from __future__ import annotations

from typing import Any, Final

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import FieldDoesNotExist
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from connections.models import Connection, McpServer
from connections.serializers import ServerSerializer
from tests.fakes.world import World
from tests.rest_clients import anonymous, with_token

from .addresses import admin_pages, everything, filled, of_what_there_is, pages

pytestmark = pytest.mark.django_db

_MARK: Final = "alices-own"
# What everybody may open, and what says of somebody else's link that it is somebody else's (S02).
# The endpoints of the authorization server are for programs and say no in their own words: tests/authserver.
_FOR_PROGRAMS: Final = (
    ".well-known/", "oauth/authorize", "oauth/introspect",
    "oauth/jwks", "oauth/register", "oauth/revoke", "oauth/token",
)  # fmt: skip
_OPEN_TO_ALL: Final = ("", "accounts/", "healthz", "readyz", "metrics", "oauth/client-", *_FOR_PROGRAMS)
_PERSONAL: Final = [
    route for route in pages() if "<" in route and not route.startswith(("accounts/", "oauth/register"))
]


def _seen(answer: Any) -> tuple[object, ...]:
    headers = {name: value for name, value in answer.headers.items() if name not in ("X-Request-ID", "Content-Length")}
    body = answer.content.decode().replace(str(answer.headers.get("X-Request-ID")), "")
    return answer.status_code, body, {name: value for name, value in headers.items() if name != "Location"}


# Z01
@pytest.mark.parametrize("who", ["bob", "staff"])
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("route", _PERSONAL)
def test_a_page_of_somebody_else_looks_like_one_that_is_not_there(
    route: str, method: str, who: str, alices: World, bob: User
) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=who == "staff")
    client = Client()
    client.force_login(bob)
    before = everything()
    foreign = getattr(client, method)(of_what_there_is(route))
    unknown = getattr(client, method)(filled(route))
    assert everything() == before
    assert alices.internet.calls == []
    assert _MARK not in foreign.content.decode()
    if route.startswith("connect/requests/"):
        assert (foreign.status_code, unknown.status_code) == (403, 404)
    else:
        assert foreign.status_code in (403, 404, 405)
        assert _seen(foreign) == _seen(unknown)


@pytest.mark.parametrize("route", [route for route in pages() if not route.startswith(_OPEN_TO_ALL[1:]) and route])
def test_a_stranger_is_asked_to_sign_in_and_told_nothing(route: str, alices: World) -> None:
    before = everything()
    for ask in (Client().get, Client().post):
        answer = ask(of_what_there_is(route))
        assert answer.status_code in (302, 405)
        assert answer.status_code == 405 or answer.headers["Location"].startswith("/accounts/login/?next=/")
        assert _MARK not in answer.content.decode()
    assert everything() == before


@pytest.mark.parametrize("who", ["nobody", "bob", "staff"])
def test_the_admin_is_for_staff_with_the_permission_of_each_page(who: str, alices: World, bob: User) -> None:
    client = Client()
    if who != "nobody":
        User.objects.filter(pk=bob.pk).update(is_staff=who == "staff")
        client.force_login(bob)
    for address in admin_pages()[1:]:
        for ask in (client.get, client.post):
            answer = ask(address)
            assert answer.status_code in ((302,) if who != "staff" else (403,)), address
            assert _MARK not in answer.content.decode()


def test_a_person_sees_only_their_own_under_every_page(alices: World, bob: User) -> None:
    client = Client()
    client.force_login(bob)
    for address in ("/connections/", "/oauth/paste", "/api/v1/connections", "/api/v1/servers", "/api/v1/audit/events"):
        said = client.get(address).content.decode()
        assert _MARK not in said
        assert "laptop" not in said


# Z07: who lost the right to a server meanwhile
@pytest.mark.parametrize("how", ["withdrawn", "inactive"])
@pytest.mark.parametrize("what", ["reconnect", "test", "refresh"])
def test_a_server_that_was_closed_to_a_person_is_used_by_no_page_of_theirs(
    what: str, how: str, browser: Client, world: World, alice: User, bob: User
) -> None:
    connection = world.connect(alice, now=timezone.now())
    if how == "withdrawn":
        connection.server.users.add(bob)
    else:
        type(connection.server).objects.update(status="inactive")
    world.internet.calls.clear()
    assert browser.post(f"/connections/{connection.pk}/{what}").status_code == 403
    assert world.internet.calls == []
    assert browser.post(f"/connections/{connection.pk}/disconnect").status_code == 303


def test_a_shared_grant_is_used_by_nobody_once_everybody_connects_for_themselves(
    world: World, administrator: User, program: APIClient
) -> None:
    server = world.server(connection_policy="shared")
    connection = world.connect(administrator, now=timezone.now())
    address = f"/api/v1/connections/{connection.pk}"
    assert program.post(f"{address}/token").status_code == 200
    type(server).objects.update(connection_policy="personal")
    assert [program.post(f"{address}/{what}").status_code for what in ("token", "refresh")] == [403, 403]
    assert Connection.objects.get().status == "active"


# Z03
@pytest.mark.parametrize("field", [field.name for field in McpServer._meta.get_fields()])
def test_only_what_is_a_setting_is_taken_from_a_body(field: str, world: World, administrator: User) -> None:
    server = world.server()
    known = {name for name, one in ServerSerializer().fields.items() if not one.read_only}
    if field in known:
        return
    before = McpServer.objects.values().get()
    client = with_token(administrator)
    for value in ("x", None, 1, [], {}):
        answer = client.patch(f"/api/v1/servers/{server.slug}", {field: value})
        assert (answer.status_code, answer.json()["error"]) == (400, "unknown_field")
    assert McpServer.objects.values().get() == before


@pytest.mark.parametrize("field", [field.name for field in Connection._meta.get_fields()])
@pytest.mark.parametrize("address", ["/api/v1/connections", "/api/v1/oauth/initiate"])
def test_nobody_writes_a_column_of_a_connection(field: str, address: str, world: World, program: APIClient) -> None:
    world.server()
    if field in ("server", "label") and address.endswith("connections") or field == "server":
        return
    if field == "subject_token_type":  # a setting of one's own grant, refused where the server takes no subject token
        return
    answer = program.post(address, {"server": "notes", field: "active"})
    assert (answer.status_code, answer.json()["error"]) == (400, "unknown_field")
    assert not Connection.objects.exists()


@pytest.mark.parametrize("field", ["user", "status", "granted_scopes", "server_id", "is_staff", "owner", "generation"])
def test_no_form_of_a_page_takes_more_than_it_shows(
    field: str, browser: Client, world: World, alice: User, bob: User
) -> None:
    world.server()
    browser.post("/connect/notes", {"label": "mine", field: str(bob.pk)})
    made = Connection.objects.get()
    assert (made.user, made.status, made.granted_scopes, made.label) == (alice, "pending", "", "mine")
    with pytest.raises(FieldDoesNotExist):
        Connection._meta.get_field("is_staff")


@pytest.mark.parametrize("username", ["alice", "nobody", "inactive"])
def test_a_failed_sign_in_does_not_tell_who_exists(username: str, client: Client, alice: User) -> None:
    User.objects.create_user("inactive", password="correct horse battery", is_active=False)
    password = "correct horse battery" if username == "inactive" else "wrong"
    page = client.post("/accounts/login/", {"login": username, "password": password})
    assert page.status_code == 200
    assert "The username and/or password you specified are not correct" in page.content.decode()
    assert "sessionid" not in client.cookies


def test_nobody_without_a_credential_gets_past_the_first_line_of_graphql() -> None:
    for query in ("{__typename}", "{__schema{types{name}}}", "{mcpServers{edges{node{id}}}}", "mutation{x}"):
        assert anonymous().post("/graphql", {"query": query}).status_code == 401
