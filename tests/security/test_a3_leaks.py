"""Where a secret could come out: logs, error pages, tasks, the admin, caches, files. Security notes A3."""

from __future__ import annotations

import base64
import inspect
import io
import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest
import structlog
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection as database
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import include, path
from django.utils import timezone
from rest_framework.test import APIClient

from connections.models import Connection, McpServer, TokenSet
from mcp_oauth_site.celery import app as celery
from mcp_oauth_site.logs import logging_config
from oauthflow.egress import Egress
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.protocol.messages import Request
from oauthflow.protocol.secret import Secret
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.product import ROOT
from tests.rest_clients import in_browser, with_token

from .addresses import admin_pages, of_what_there_is, pages, patterns

pytestmark = pytest.mark.django_db

MARKER: Final = "Kx7Marker3Qz9"
_CALLBACK: Final = "/api/v1/oauth/callback"


@pytest.fixture
def secretive(world: World) -> World:
    """Every code, token and secret of the service carries the marker."""
    world.authorization_server.marker = MARKER
    world.authorization_server.auth_methods = ["client_secret_post"]
    return world


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that reaches the site's own log format, with every logger of every library at DEBUG."""
    config = logging_config()
    formatter = dict(config["formatters"]["lines"])
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    formatter.pop("()")
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(**formatter))
    for name in config["handlers"]["stderr"]["filters"]:
        handler.addFilter(config["filters"][name]["()"]())
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in list(logging.root.manager.loggerDict))]
    before = [(one, one.level, one.propagate) for one in loggers]
    for one in loggers:
        one.setLevel(logging.DEBUG)
        one.propagate = True
    logging.getLogger().addHandler(handler)
    yield written
    logging.getLogger().removeHandler(handler)
    for one, level, propagate in before:
        one.setLevel(level)
        one.propagate = propagate


def _forms(marker: str) -> set[str]:
    plain = marker.encode()
    return {marker, quote(marker), plain.hex(), *(base64.b64encode(b"x" * n + plain)[4:-4].decode() for n in range(3))}


def _sent(world: World) -> set[str]:
    """Every secret that was under way, wherever it has no marker."""
    asked = [*world.authorization_server.authorization_requests, *world.authorization_server.token_requests]
    names = ("state", "code_verifier", "code", "client_secret", "refresh_token")
    return {one[name] for one in asked for name in names if one.get(name)}


# L01
@pytest.mark.parametrize(
    "failure",
    [
        {}, {"token_answer": Answer(500, MARKER)},
        {"token_answer": Answer(400, {"error": "invalid_grant", "x": MARKER})},
        {"token_answer": Answer(200, f"<html>{MARKER}</html>")}, {"token_overrides": {"token_type": MARKER}},
        {"token_overrides": {"expires_in": MARKER}},
        {"token_answer": Answer(302, headers={"Location": f"https://{MARKER}.example"})},
        {"token_overrides": {"access_token": f"{MARKER}\r\nX: {MARKER}"}}, {"denies_with": MARKER},
        {"refresh_answer": Answer(400, {"error": MARKER, "error_description": MARKER})},
        {"refresh_answer": Answer(401, {"error": "invalid_client"})}, {"iss_override": f"https://{MARKER}.example"},
    ],
)  # fmt: skip
def test_no_logger_at_any_level_writes_a_secret(
    failure: dict[str, Any], secretive: World, log: io.StringIO, browser: Client, program: APIClient,
    come_back: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in failure.items():
        setattr(secretive.authorization_server, name, value)
    params = come_back()
    browser.get(f"{_CALLBACK}?{urlencode(params)}")
    browser.get(f"{_CALLBACK}?{urlencode(params)}")
    where = f"/api/v1/connections/{Connection.objects.get().pk}"
    for what in ("token", "refresh", "revoke"):
        program.post(f"{where}/{what}")
    written = log.getvalue()
    assert "request" in written
    assert not [form for form in _forms(MARKER) if form in written]
    assert not [secret for secret in _sent(secretive) if secret in written]
    assert not [value for value in params.values() if value in written and not value.startswith("https://as.example")]


def test_a_crash_with_secrets_at_hand_writes_none(
    secretive: World, log: io.StringIO, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = secretive.connect(alice, now=timezone.now())

    redeem = Egress.redeem

    def crash(http: Egress, request: Request, **rest: Any) -> None:
        tokens = redeem(http, request, **rest)
        plain = tokens.access_token.reveal()
        raise RuntimeError(f"crashed with {tokens!r}, access_token={plain} and Bearer {plain}")

    monkeypatch.setattr(Egress, "redeem", crash)
    client = with_token(alice)
    client.raise_request_exception = False
    answer = client.post(f"/api/v1/connections/{connection.pk}/refresh")
    assert (answer.status_code, answer.json()["error"]) == (500, "server_error")
    written = log.getvalue()
    assert "RuntimeError" in written
    assert MARKER not in written
    assert MARKER not in answer.content.decode()


@pytest.mark.parametrize("strange", ["a\r\nfaked", "\x1b[31mred", "\u2028faked", "\x00"])
def test_a_visitor_cannot_forge_a_line_of_the_log(strange: str, log: io.StringIO, client: Client) -> None:
    client.get("/nowhere/" + quote(strange), headers={"User-Agent": strange.replace("\r\n", " ")})
    client.post("/accounts/login/", {"login": strange, "password": "x"})
    client.get("/healthz", headers={"Host": "evil.example"})
    lines = log.getvalue().splitlines()
    assert lines
    assert all(json.loads(line) for line in lines)
    assert strange not in log.getvalue()


# L02
def _fail(request: HttpRequest) -> HttpResponse:
    hunter = "database password hunter2"
    raise RuntimeError(hunter, settings.SECRET_KEY)


urlpatterns = [path("fail", _fail), path("api/v1/fail", _fail), path("", include("mcp_oauth_site.urls"))]
handler400 = "mcp_oauth_site.pages.bad_request"
handler403 = "mcp_oauth_site.pages.forbidden"
handler404 = "mcp_oauth_site.pages.not_found"
handler500 = "mcp_oauth_site.pages.server_error"

_TELLTALES: Final = (
    "Traceback", "hunter2", "SECRET_KEY", "INSTALLED_APPS", "DATABASES", "MIDDLEWARE", "django", "Python/", "uvicorn",
    "site-packages", "Exception", "sqlite", "psycopg", str(ROOT), "urlpatterns", "5.2.",
)  # fmt: skip


@override_settings(ROOT_URLCONF=__name__, DEBUG=False)
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_no_error_page_tells_what_we_are_made_of(prefix: str, alice: User) -> None:
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    client.force_login(alice)
    many = {f"f{number}": "x" for number in range(600)}
    answers = {
        "bad host": client.get(f"{prefix}/", headers={"Host": "evil.example"}),
        "too many fields": client.get(f"{prefix}/oauth/callback", many)
        if prefix
        else client.post("/oauth/paste", many),
        "forbidden": client.post(
            f"{prefix}/connections/{alice.pk}/disconnect" if not prefix else f"{prefix}/connections"
        ),
        "not found": client.get(f"{prefix}/nowhere"),
        "method": client.delete(f"{prefix}/oauth/callback" if prefix else "/oauth/paste"),
        "too large": client.post(f"{prefix}/oauth/initiate" if prefix else "/oauth/paste", {"pasted": "x" * 2_000_000}),
        "crash": client.get(f"{prefix}/fail"),
    }
    assert answers["crash"].status_code == 500
    for what, answer in answers.items():
        said = answer.content.decode() + str(answer.headers)
        assert answer.status_code >= 400, what
        assert [word for word in _TELLTALES if word.lower() in said.lower()] == [], what


# L04
def test_a_task_is_told_nothing_and_answers_nothing() -> None:
    celery.loader.import_default_modules()
    ours = {name: task for name, task in celery.tasks.items() if name.startswith("oauthflow.")}
    assert ours
    for task in ours.values():
        assert set(inspect.signature(task.run).parameters) <= {"connection_id"}
    assert all(not entry.get("args") and not entry.get("kwargs") for entry in celery.conf.beat_schedule.values())
    assert (list(celery.conf.accept_content), celery.conf.task_serializer) == (["json"], "json")
    assert celery.conf.task_ignore_result is True


# L05, L06
def _kept_secrets() -> set[str]:
    """Whatever is stored in sealed or hashed columns, and what the sealed ones hold."""
    found: set[str] = set()
    sql = 'SELECT "{name}" FROM "{table}"'
    with database.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            table = model._meta.db_table
            for name in (str(field.column) for field in model._meta.local_concrete_fields):
                if name.endswith(("_sealed", "_hash")) or name in ("password", "mac", "previous_mac", "session_key"):
                    cursor.execute(sql.format(name=name, table=table))
                    found |= {str(row[0]) for row in cursor.fetchall() if row[0]}
    assert len(found) > 10
    return found


@pytest.fixture
def everything_stored(secretive: World, administrator: User, alice: User) -> World:
    """Connections, attempts, registrations, tokens of programs, and a server with every secret of its own."""
    server = secretive.server(client_id="by-hand")
    for name in ("client_secret", "static_credential", "environment"):
        setattr(server, f"{name}_sealed", Secret(f"{MARKER}-{name}"))
    server.save()
    type(server).objects.filter(pk=server.pk).update(client_id="")
    for person in (administrator, alice):
        connection = secretive.connect(person, now=timezone.now())
        start_authorization(connection, user=person, now=timezone.now())
        with_token(person)
    return secretive


def test_no_page_of_the_admin_and_no_answer_shows_a_secret_or_what_is_kept_of_it(
    everything_stored: World, administrator: User
) -> None:
    client, program = Client(), with_token(administrator)
    client.force_login(administrator)
    kept = _kept_secrets()
    addresses = admin_pages() + [of_what_there_is(route) for route in pages()]
    answers = {address: client.get(address).content.decode() for address in addresses}
    for route in patterns():
        if route.startswith("api/v1/") and not route.endswith(("/token", "/call", "/tools")):
            answers[route] = program.get(of_what_there_is(route)).content.decode()
    assert sum("<html" in page for page in answers.values()) > 30
    for address, said in answers.items():
        assert MARKER not in said, address
        # The state of an attempt of one's own is the one thing that a link may carry.
        assert [secret for secret in kept if secret in said] == [], address


# L07
def test_nobody_keeps_a_copy_of_what_a_signed_in_person_sees(everything_stored: World, administrator: User) -> None:
    client = in_browser(administrator)
    routes = [
        of_what_there_is(route)
        for route in patterns()
        if not route.startswith(("oauth/client-", "oauth/jwks", ".well-known/"))
    ]
    careless = []
    for address in [*routes, *admin_pages(), "/nowhere", "/api/v1/nowhere", "/connections/nowhere"]:
        for ask in (client.get, client.post):
            answer = ask(address)
            is_plain = answer.status_code in (301, 302, 405) or address in ("/healthz", "/")
            if not is_plain and "no-store" not in answer.headers.get("Cache-Control", ""):
                careless.append((answer.status_code, address))
    assert careless == []


# L08
@pytest.mark.parametrize(
    "address", ["/graphql", "/api/v1/connections", "/api/v1/servers/export", "/api/v1/audit/events"]
)
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_token_in_an_address_is_refused_even_beside_a_good_one(address: str, method: str, program: APIClient) -> None:
    answer = getattr(program, method)(f"{address}?access_token=mcp_x")
    assert answer.status_code == 400


# L09
def test_files_are_private_whatever_the_mask(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(folder), "DEBUG": "true"}
    program = "import os, django; os.umask(0); os.environ['DJANGO_SETTINGS_MODULE'] = 'mcp_oauth_site.settings';"
    program += "django.setup(); from django.core.management import call_command; call_command('migrate', verbosity=0);"
    program += "from mcp_oauth_site.startup import prepare_broker; prepare_broker()"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, timeout=120)
    files = [found for found in folder.rglob("*") if found.is_file()]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {found.name: oct(stat.S_IMODE(found.stat().st_mode)) for found in files} == {
        found.name: "0o600" for found in files
    }
    assert {"keys.json", "site.sqlite3", "broker.sqlite3"} <= {found.name for found in files}


# L10
@pytest.mark.parametrize("address", ["/healthz", "/readyz"])
def test_health_tells_strangers_parts_and_words_only(address: str, everything_stored: World, client: Client) -> None:
    said = client.get(address).json()
    words = {str(value) for value in [said["status"], *said.get("parts", {}).values()]}
    assert words <= {"ok", "degraded", "failed"}
    assert set(said) <= {"status", "parts"}


def test_a_token_near_its_end_is_not_told_by_status(everything_stored: World, alice: User) -> None:
    TokenSet.objects.update(expires_at=timezone.now() + timedelta(seconds=1))
    connection = Connection.objects.get(user=alice)
    said = with_token(alice).get(f"/api/v1/connections/{connection.pk}/status").content.decode()
    assert MARKER not in said
    assert McpServer.objects.count() == 1
