"""What other sites and hostile texts get out of a browser that is signed in here. Security notes A4: Z09 to Z11."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import include, path
from django.utils import timezone

from connections.models import ApiToken, AuthorizationServer, Connection, FlowTrace, McpServer
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.models import AuthorizationRequest
from oauthflow.views import connections as connection_pages
from tests.fakes.world import World
from tests.rest_clients import in_browser, with_token

from .addresses import READ_EVERYWHERE, admin_pages, everything, of_what_there_is, pages, patterns

pytestmark = pytest.mark.django_db

_XSS: Final = "<script>alert(1)</script>"
_ATTRIBUTE: Final = "\"><img/src=x/onerror=alert(1)>'"


# Z09
_ORIGINS: Final = (
    "https://evil.example", "null", "https://app.example.evil.example", "http://app.example", "https://APP.example",
    "https://app.example:8443", "https://app.example/", "https://app.example, https://evil.example", "*", "file://",
    "https://sub.app.example", "http://localhost:8000",
)  # fmt: skip


@override_settings(CORS_ALLOWED_ORIGINS=("https://app.example",))
@pytest.mark.parametrize("origin", _ORIGINS)
def test_no_other_origin_reads_anything_but_public_documents(origin: str, alices: World, administrator: User) -> None:
    client = in_browser(administrator)
    routes = [of_what_there_is(route) for route in patterns()] if origin in _ORIGINS[:2] else ["/api/v1/connections"]
    addresses = [*routes, *admin_pages()[:3], "/nowhere", "/api/v1/nowhere", "/graphql", "/accounts/login/"]
    for address in addresses:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for answer in (client.get(address, headers={"Origin": origin}), client.options(address, headers=asked)):
            allowed = answer.headers.get("Access-Control-Allow-Origin")
            assert allowed == ("*" if allowed and address[1:].startswith(READ_EVERYWHERE) else None), address
            assert "Access-Control-Allow-Credentials" not in answer.headers


@override_settings(CORS_ALLOWED_ORIGINS=("https://app.example",))
def test_a_listed_origin_reads_the_api_and_no_page(alices: World, administrator: User) -> None:
    client = in_browser(administrator)
    for route in patterns():
        address = of_what_there_is(route)
        allowed = client.get(address, headers={"Origin": "https://app.example"}).headers.get(
            "Access-Control-Allow-Origin"
        )
        is_api = route.startswith(("api/v1/", "graphql")) and route != "api/v1/oauth/callback"
        is_public = allowed == "*" and route.startswith(READ_EVERYWHERE)
        assert allowed == ("https://app.example" if is_api else "*" if is_public else None), route


# Z10
def _fail(request: HttpRequest) -> HttpResponse:
    raise RuntimeError


urlpatterns = [path("fail", _fail), path("api/v1/fail", _fail), path("", include("mcp_oauth_site.urls"))]
handler400 = "mcp_oauth_site.pages.bad_request"
handler403 = "mcp_oauth_site.pages.forbidden"
handler404 = "mcp_oauth_site.pages.not_found"
handler500 = "mcp_oauth_site.pages.server_error"
_DIRECTIVES: Final = (
    "default-src 'none'", "frame-ancestors 'none'", "object-src 'none'", "base-uri 'none'", "script-src 'self'",
    "form-action 'self'",
)  # fmt: skip


@override_settings(ROOT_URLCONF=__name__, DEBUG=False)
def test_every_answer_forbids_framing_inline_code_and_guessing(alices: World, administrator: User) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(administrator)
    addresses = [of_what_there_is(route) for route in patterns()] + admin_pages()
    answers: dict[str, Any] = {address: client.get(address) for address in [*addresses, "/nowhere", "/api/v1/nowhere"]}
    answers |= {f"POST {address}": Client(enforce_csrf_checks=True).post(address) for address in addresses}
    answers |= {"fail": client.get("/fail"), "api fail": client.get("/api/v1/fail")}
    answers |= {"host": client.get("/healthz", headers={"Host": "evil.example"}), "put": client.put("/oauth/paste")}
    answers |= {"signed out": Client().get("/connections/"), "login": Client().get("/accounts/login/")}
    assert {200, 302, 400, 401, 403, 404, 405, 500} <= {answer.status_code for answer in answers.values()}
    for what, answer in answers.items():
        policy = answer.headers.get("Content-Security-Policy", "")
        assert [directive for directive in _DIRECTIVES if directive not in policy] == [], what
        assert "unsafe" not in policy, what
        assert "*" not in policy, what
        # Django refuses a foreign host before its oldest header is set; the policy forbids framing there too.
        assert answer.headers.get("X-Frame-Options") == ("DENY" if what != "host" else None), what
        assert answer.headers["X-Content-Type-Options"] == "nosniff", what
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin", what
        assert answer.headers["Referrer-Policy"] in ("same-origin", "no-referrer"), what
        assert "Server" not in answer.headers, what
        assert "X-Powered-By" not in answer.headers, what


@pytest.fixture
def hostile(world: World, administrator: User, monkeypatch: pytest.MonkeyPatch) -> World:
    """Every text that somebody else chose is markup."""
    scope = "<script>alert(1)</script> '><img/src=x/onerror=alert(1)>"
    world.authorization_server.marker = ""
    world.authorization_server.metadata_overrides = {
        "service_documentation": _XSS,
        "op_policy_uri": "javascript:alert(1)",
    }
    world.mcp_server.metadata_overrides = {"resource_name": _XSS, "resource_documentation": "javascript:alert(1)"}
    world.mcp_server.scopes_supported = scope.split()
    server = world.server(description=_XSS + _ATTRIBUTE)
    User.objects.filter(pk=administrator.pk).update(username=_ATTRIBUTE, first_name=_XSS)
    administrator.refresh_from_db()
    connection = world.connect(administrator, now=timezone.now())
    start_authorization(connection, user=administrator, now=timezone.now())
    with_token(administrator)
    McpServer.objects.update(name=_XSS, scopes=scope)
    Connection.objects.update(label=_ATTRIBUTE, reason=_XSS, granted_scopes=scope, requested_scopes=scope)
    Connection.objects.update(issuer="javascript:alert(1)//" + _XSS)
    ApiToken.objects.update(name=_XSS, scopes=[_XSS])
    AuthorizationRequest.objects.update(issuer=_XSS, client_id=_ATTRIBUTE, error_code=_XSS)
    steps = [{"step": _XSS, "url": _XSS, "status": 200, "duration_ms": 1, "verdict": _ATTRIBUTE}]
    FlowTrace.objects.update(verdict=_XSS, code=_ATTRIBUTE, steps=steps)
    AuthorizationServer.objects.update(document={"issuer": _XSS, _ATTRIBUTE: _XSS})
    server.discovery.failure_detail = _XSS
    server.discovery.save()
    tools = [{"name": _XSS}, {"name": _ATTRIBUTE}]
    monkeypatch.setattr(connection_pages, "list_tools", lambda connection, now: tools)
    return world


def test_hostile_texts_are_shown_as_texts_everywhere(hostile: World, administrator: User) -> None:
    client = Client()
    client.force_login(administrator)
    connection = Connection.objects.get()
    addresses = [of_what_there_is(route) for route in pages()] + admin_pages()
    answers = {address: client.get(address) for address in addresses}
    # A message is shown on the page after.
    client.post(f"/connections/{connection.pk}/test")
    answers["message"] = client.get(f"/connections/{connection.pk}")
    answers["connect again"] = client.get("/connect/notes", {"label": _ATTRIBUTE, "return_to": _ATTRIBUTE})
    for name in ("reconnect", "disconnect"):
        answers[name] = client.post(f"/connections/{connection.pk}/{name}", follow=True)
    shown = 0
    for what, answer in answers.items():
        page = answer.content.decode()
        assert "<script>alert" not in page, what
        assert "<img/src" not in page, what
        assert 'href="javascript:' not in page.lower(), what
        shown += "&lt;script&gt;alert(1)" in page
    assert shown > 15


@pytest.mark.parametrize("field", ["url", "issuer", "documentation_url", "authorization_endpoint", "resource"])
def test_an_address_that_runs_code_is_no_link_even_when_it_got_into_the_row(
    field: str, world: World, administrator: User
) -> None:
    world.connect(administrator, now=timezone.now())
    McpServer.objects.update(**{field: "javascript:alert(1)"})
    client = Client()
    client.force_login(administrator)
    for address in [of_what_there_is(route) for route in pages()] + admin_pages():
        page = client.get(address).content.decode().replace("'", '"').lower()
        assert 'href="javascript:' not in page, address
        assert 'src="javascript:' not in page, address


# Z11
def test_no_form_works_without_the_proof_that_it_is_ours(alices: World, administrator: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(administrator)
    before = everything()
    addresses = [of_what_there_is(route) for route in patterns()] + admin_pages()
    for address in addresses:
        for ask in (client.post, client.put, client.patch, client.delete):
            assert ask(address).status_code in (400, 401, 403, 404, 405), address
    assert everything() == before
    assert alices.internet.calls == []


def test_signing_in_and_out_leaves_the_old_session_worthless(client: Client, alice: User) -> None:
    client.get("/accounts/login/")
    session = client.session
    session["planted"] = "by the attacker"
    session.save()
    client.cookies["sessionid"] = session.session_key
    client.post("/accounts/login/", {"login": "alice", "password": "correct horse battery"})
    signed_in = client.cookies["sessionid"].value
    assert signed_in != session.session_key
    attacker = Client()
    attacker.cookies["sessionid"] = session.session_key
    assert attacker.get("/connections/").status_code == 302
    assert client.get("/accounts/logout/").status_code == 405
    assert client.post("/accounts/logout/").status_code == 302
    attacker.cookies["sessionid"] = signed_in
    assert attacker.get("/connections/").status_code == 302


@override_settings(SESSION_COOKIE_NAME="__Host-sessionid", CSRF_COOKIE_NAME="__Host-csrftoken")
def test_on_https_a_cookie_without_the_prefix_is_no_session_and_no_proof(alice: User) -> None:
    known = Client()
    known.force_login(alice)
    assert known.get("/connections/").status_code == 200
    twin = Client(enforce_csrf_checks=True)
    twin.cookies["sessionid"] = known.cookies["__Host-sessionid"].value
    assert twin.get("/connections/").status_code == 302
    twin.cookies["csrftoken"] = "x" * 32
    login = {"login": "alice", "password": "correct horse battery", "csrfmiddlewaretoken": "x" * 32}
    assert twin.post("/accounts/login/", login).status_code == 403


@override_settings(PUBLIC_URL="https://mcp.example.com")
def test_on_https_the_cookie_of_an_attempt_counts_with_its_prefix_only(
    browser: Client, come_back: Callable[..., dict[str, str]], world: World
) -> None:
    params = come_back()
    name = f"__Host-mcp_flow_{AuthorizationRequest.objects.get().pk.hex[:16]}"
    cookie = browser.cookies.pop(name)
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, True, "Lax", "/")
    assert cookie["domain"] == ""
    assert int(cookie["max-age"]) <= 600
    browser.cookies[name.removeprefix("__Host-")] = cookie.value
    assert browser.get("/api/v1/oauth/callback", params).status_code == 403
    assert world.authorization_server.token_requests == []
