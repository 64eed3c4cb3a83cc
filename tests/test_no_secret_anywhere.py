"""L01 inside one process: a marker in every secret, a story with all its failures, then a search of what it left.

`tests/end_to_end/test_marker.py` does the same with the running product.
"""

from __future__ import annotations

import base64
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import TextField
from django.db.models.functions import Cast
from django.test import Client
from django.utils import timezone
from structlog.stdlib import ProcessorFormatter

from connections.models import Connection, FlowTrace, TokenSet
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.check_server import check_server
from oauthflow.flows.refresh import refresh_connection
from oauthflow.flows.report_challenge import report_challenge
from oauthflow.flows.request_headers import prepare_request
from oauthflow.flows.revoke import revoke_connection
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.secret import Secret
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.requirements import requirement

MARKER = "MaRk3dQ7x9Zp2Lw5"


class Left:
    """Everything that was left behind, by place, and the secrets that carry no marker because they are ours."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {"log": [], "error": [], "repr": [], "database": [], "answer": []}
        self.secrets = {MARKER}

    def found(self) -> list[tuple[str, str]]:
        """Place and form of each secret that can be read somewhere."""
        forms = {form for secret in self.secrets for form in forms_of(secret)}
        joined = {place: "\n".join(texts) for place, texts in self.texts.items()}
        assert all(joined.values()), "a place that was not searched"
        return [(place, form) for place, text in joined.items() for form in forms if form in text]


def forms_of(secret: str) -> set[str]:
    """The secret as it is, in hexadecimal, percent-encoded, and in base64 wherever it may begin in a longer text."""
    shifted = [base64.b64encode(b"\0" * skipped + secret.encode()).decode() for skipped in range(3)]
    # What a neighbour's bits can change is cut off at both ends.
    inner = {text[4 if skipped else 0 : -4] for skipped, text in enumerate(shifted)}
    web = {text.replace("+", "-").replace("/", "_") for text in inner}
    everywhere = "".join(f"%{byte:02X}" for byte in secret.encode())
    return {secret, quote(secret, safe=""), secret.encode().hex(), everywhere} | inner | web


class KeepEverything(logging.Handler):
    """Keeps the line as the site writes it, and what a plain handler would write: text, arguments, exception."""

    def __init__(self, left: Left) -> None:
        super().__init__(level=logging.DEBUG)
        self._left = left
        lines = settings.LOGGING["formatters"]["lines"]
        self.setFormatter(ProcessorFormatter(**{name: lines[name] for name in ("processors", "foreign_pre_chain")}))

    def emit(self, record: logging.LogRecord) -> None:
        raised = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        self._left.texts["log"] += [f"{record.getMessage()} {record.args!r} {raised}", self.format(record)]


@pytest.fixture
def left() -> Iterator[Left]:
    kept = Left()
    root, handler = logging.getLogger(), KeepEverything(kept)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield kept
    root.removeHandler(handler)
    root.setLevel(level)


@contextmanager
def failing(left: Left) -> Iterator[None]:
    """Expect a failure, and keep all that it says."""
    with pytest.raises(FlowError) as caught:
        yield
    error: BaseException | None = caught.value
    while error is not None:
        said = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
        left.texts["error"] += said
        error = error.__cause__ or error.__context__


def dump() -> list[str]:
    """Every column of every row, as the database holds it."""
    rows: list[str] = []
    for model in apps.get_models(include_auto_created=True):
        held = {field.column: Cast(field.attname, TextField()) for field in model._meta.concrete_fields}
        named = {f"held_{column}": expression for column, expression in held.items()}
        rows += [repr(row) for row in model._base_manager.annotate(**named).values_list(*named)]
    return rows


def configured(world: World) -> None:
    by_hand = world.server("by-hand", client_id="by-hand")
    by_hand.client_secret_sealed = Secret(f"secret-{MARKER}")
    by_hand.save()
    fixed = world.server("fixed", auth_type="bearer")
    fixed.static_credential_sealed = Secret(f"fixed-{MARKER}")
    fixed.environment_sealed = Secret(f'{{"KEY": "{MARKER}"}}')
    fixed.save()


def sign_in(world: World, browser: Client, connection: Connection, *, user: User, left: Left, spoilt: str = "") -> None:
    """As a browser does it; `spoilt` is added to the address that it comes back with."""
    started = start_authorization(connection, user=user, now=timezone.now())
    request = AuthorizationRequest.objects.get(pk=started.request.pk)
    left.secrets |= {started.state.reveal(), request.code_verifier_sealed.reveal().reveal()}
    left.texts["repr"] += [repr(started), repr(vars(request)), repr(request.state_sealed)]
    sent = browser.post(urlsplit(started.authorization_url).path, headers={"Sec-Fetch-Site": "same-origin"})
    left.secrets |= {cookie.value for name, cookie in sent.cookies.items() if "mcp_flow" in name}
    assert sent.status_code == 303
    back = world.authorization_server.authorize(sent.headers["Location"])
    left.secrets.add(dict(parse_qsl(urlsplit(back).query)).get("code", MARKER))
    answer = browser.get(f"/api/v1/oauth/callback?{urlsplit(back).query}{spoilt}")
    left.texts["answer"] += [answer.content.decode(), repr({**answer.headers})]


def every_bad_answer() -> list[Answer]:
    """Answers of a token endpoint that repeat secrets, as error pages and traces of other people do."""
    return [
        Answer(500, f"<html>refresh_token={MARKER}</html>"),
        Answer(400, {"error": "invalid_request", "error_description": MARKER, "error_uri": f"https://x/{MARKER}"}),
        Answer(400, {"error": MARKER}),
        Answer(401, {"error": "invalid_client", "error_description": MARKER}),
        Answer(200, {"access_token": f"{MARKER}\r\nX: y", "token_type": "Bearer"}),
        Answer(200, {"access_token": MARKER, "token_type": MARKER}),
        Answer(200, f"access_token={MARKER}"),
        Answer(200, f'{{"access_token": "{MARKER}", ', {"Content-Type": "application/json"}),
        Answer(302, "", {"Location": f"https://as.example/?refresh_token={MARKER}"}),
        Answer(400, {"error": "invalid_grant", "error_description": MARKER}),
    ]


def refresh_in_every_way(connection: Connection, world: World, *, left: Left, now: datetime) -> None:
    refresh_connection(connection, now=now, trigger="request")
    for answer in every_bad_answer():
        world.authorization_server.refresh_answer = answer
        with failing(left):
            refresh_connection(connection, now=now, trigger="request")
    world.authorization_server.refresh_answer = None
    with failing(left):
        usable_access_token(connection, now=now + timedelta(days=1))
    refresh_connection(connection, now=now, trigger="request")


def sign_in_in_every_wrong_way(
    world: World, browser: Client, connection: Connection, *, user: User, left: Left
) -> None:
    upstream = world.authorization_server
    for answer in every_bad_answer():
        upstream.token_answer = answer
        sign_in(world, browser, connection, user=user, left=left)
    upstream.token_answer = None
    for spoilt in (f"&code={MARKER}", f"&error_description={MARKER}", f"&state={MARKER}"):
        sign_in(world, browser, connection, user=user, left=left, spoilt=spoilt)
    for name, value in (("iss_override", f"https://{MARKER}.example"), ("denies_with", MARKER)):
        setattr(upstream, name, value)
        sign_in(world, browser, connection, user=user, left=left)
    upstream.iss_override, upstream.denies_with = None, ""


@requirement("T-08", "T-11")
def test_no_secret_is_left_in_logs_errors_answers_traces_or_the_database(world: World, alice: User, left: Left) -> None:
    now = timezone.now()
    browser = Client()
    browser.force_login(alice)
    upstream = world.authorization_server
    upstream.marker, upstream.auth_methods = MARKER, ["client_secret_basic"]
    configured(world)

    connection = world.connection(alice)
    sign_in(world, browser, connection, user=alice, left=left)
    connection.refresh_from_db()
    assert connection.status == "active"
    token = usable_access_token(connection, now=now)
    assert MARKER in token.access_token.reveal()
    left.texts["repr"] += [repr(token), repr(prepare_request(connection, now=now)), repr(vars(TokenSet.objects.get()))]

    refresh_in_every_way(connection, world, left=left, now=now)
    sign_in_in_every_wrong_way(world, browser, connection, user=alice, left=left)
    by_hand = world.connection(alice, slug="by-hand")
    sign_in(world, browser, by_hand, user=alice, left=left)
    left.texts["repr"].append(repr(prepare_request(world.connection(alice, slug="fixed"), now=now)))
    for status in (401, 403):
        header = f'Bearer error="invalid_token", error_description="{MARKER}"'
        answer = report_challenge(by_hand, user=alice, status=status, www_authenticate=header, now=now)
        left.texts["repr"].append(repr(answer))
    check_server(world.server(), user=alice, now=now)
    upstream.registration_answer = Answer(400, {"error": "invalid_client_metadata", "error_description": MARKER})
    world.server("third")
    with failing(left):
        start_authorization(world.connection(alice, slug="third"), user=alice, now=now)
    left.texts["database"] += dump()
    upstream.revocation_answer = Answer(400, {"error": "invalid_request", "error_description": MARKER})
    revoke_connection(by_hand, actor=alice, reason="over", now=now)
    upstream.revocation_answer = None
    revoke_connection(connection, actor=alice, reason="over", now=now)

    left.texts["database"] += dump()
    assert FlowTrace.objects.filter(ok=False).exists()
    assert "client-1" in "".join(left.texts["database"])
    assert left.found() == []


def test_the_search_finds_what_it_looks_for() -> None:
    encoded = [base64.b64encode(before + f"{MARKER}tail".encode()).decode() for before in (b"", b"a", b"ab")]
    for text in (MARKER, f"x{MARKER}y", MARKER.encode().hex(), *encoded):
        left = Left()
        for place in left.texts:
            left.texts[place].append("nothing")
        left.texts["log"].append(text)
        assert left.found(), text
