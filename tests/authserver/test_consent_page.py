"""The page that asks: what a person reads on it, and what a browser lets it do."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from audit.events import AuditEvent
from audit.models import AuditRecord
from authserver.models import Consent, McpClient, PendingAuthorization
from tests.requirements import requirement

from .asking import CALLBACK, address, ask, decide, gateway_server, registered

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(alice: User, client: Client) -> Client:
    client.force_login(alice)
    gateway_server(name="Team <notes>")
    return client


def _policy(response: HttpResponse) -> dict[str, set[str]]:
    directives = (part.split() for part in response.headers["Content-Security-Policy"].split(";") if part.strip())
    return {name: set(values) for name, *values in directives}


@requirement("P-03", "P-04", "P-05", "R-23", "AS03")
def test_the_page_says_who_where_what_and_for_how_long(browser: Client) -> None:
    page = ask(browser, registered(name="Inbox sorter")).content.decode()
    for said in (
        "Inbox sorter",
        "Not verified",
        '<p class="place">client.example.com</p>',
        "Team &lt;notes&gt;",
        "mcp.example",
        "alice",
        "Use this server and its tools in your name",
        "stays connected",
    ):
        assert said in page, said
    assert "<script src" in page  # the site's own, which this page does not need
    assert len(re.findall(r"<button[^>]* name=\"decision\"", page)) == 2


def test_a_client_that_cannot_renew_is_said_to_have_minutes(browser: Client) -> None:
    page = ask(browser, registered(grant_types=["authorization_code"])).content.decode()
    assert "For a few minutes" in page
    assert "stays connected" not in page


@requirement("AS03")
@pytest.mark.parametrize("name", ["Claude", "Cl\u0430ude", "C1aude Code"])
def test_a_name_that_people_would_trust_is_warned_of(browser: Client, name: str) -> None:
    assert "Anybody can choose this name" in ask(browser, registered(name=name)).content.decode()


@requirement("AS03")
def test_what_an_administrator_verified_is_said_and_not_warned_of(browser: Client) -> None:
    page = ask(browser, registered(name="Claude", verified=True)).content.decode()
    assert "Verified by your administrator" in page
    assert "Anybody can choose" not in page
    assert "Not verified" not in page


@requirement("R-23", "AS03")
def test_a_client_on_this_computer_is_named_as_such_and_warned_of(browser: Client) -> None:
    client = registered(redirect_uris=["http://localhost/cb"])
    page = ask(browser, client, redirect_uri="http://localhost:5000/cb").content.decode()
    assert '<p class="place">localhost:5000</p>' in page
    assert "Whichever program on this computer asked first" in page


@requirement("R-23", "AS03")
def test_the_host_of_a_document_stands_beside_the_redirect_host(browser: Client) -> None:
    client = registered(
        client_id="https://vendor.example/client.json",
        kind=McpClient.Kind.METADATA_DOCUMENT,
        document_hash="x",
        document_expires_at="2999-01-01T00:00Z",
    )
    page = ask(browser, client).content.decode()
    assert '<p class="place">vendor.example</p>' in page
    assert '<p class="place">client.example.com</p>' in page


@pytest.mark.parametrize("name", ["", "x" * 64, "Ключ 日本語", "&amp; \"quoted\" 'it'", "{{ 7 }}{% now %}"])
def test_any_name_is_shown_as_text(browser: Client, name: str) -> None:
    page = ask(browser, registered(name=name))
    assert page.status_code == 200
    assert "A program without a name" in page.content.decode() if not name else True
    assert "{{ 7 }}" in page.content.decode() or "{{" not in name


@requirement("P-06", "AS10")
def test_a_form_of_another_site_decides_nothing(alice: User) -> None:
    gateway_server()
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    ask(browser, registered())
    assert decide(browser, "allow").status_code == 403
    assert not Consent.objects.exists()


@requirement("P-06", "AS10")
def test_the_form_holds_the_decision_and_nothing_that_could_be_changed(browser: Client) -> None:
    page = ask(browser, registered()).content.decode()
    form = page[page.index('class="choices"') : page.index("</form>", page.index('class="choices"'))]
    assert re.findall(r'name="(\w+)"', form) == ["csrfmiddlewaretoken", "decision", "decision"]
    assert "client.example.com" not in form
    pending = PendingAuthorization.objects.get()
    extra = {"decision": "allow", "redirect_uri": "https://evil.example/", "scope": "x", "client_id": "y"}
    answer = browser.post(f"/oauth/authorize/{pending.pk}?redirect_uri=https://evil.example/", extra)
    assert answer.headers["Location"].startswith(f"{CALLBACK}?code=")
    assert Consent.objects.get().scope == "mcp:access"


@requirement("P-07")
def test_the_page_cannot_be_framed_kept_or_made_to_run_anything(browser: Client) -> None:
    for page in (ask(browser, registered()), browser.get(address(registered(client_id="x"), scope="nope"))):
        policy = _policy(page)
        assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == {"'none'"}
        assert policy["script-src"] == {"'self'"}
        assert page.headers["X-Frame-Options"] == "DENY"
        assert "no-store" in page.headers["Cache-Control"]
        assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin"


@pytest.mark.parametrize(
    ("registered_uri", "requested", "source"),
    [
        (CALLBACK, CALLBACK, "https://client.example.com"),
        ("https://client.example.com:8443/cb", "https://client.example.com:8443/cb", "https://client.example.com:8443"),
        ("http://127.0.0.1/cb", "http://127.0.0.1:4000/cb", "http://127.0.0.1:4000"),
        ("http://[::1]/cb", "http://[::1]:4000/cb", "http:"),
        ("com.example.app:/cb", "com.example.app:/cb", "com.example.app:"),
    ],
)
def test_the_form_may_end_here_or_at_the_client_and_nowhere_else(
    browser: Client, registered_uri: str, requested: str, source: str
) -> None:
    page = ask(browser, registered(redirect_uris=[registered_uri]), redirect_uri=requested)
    assert _policy(page)["form-action"] == {"'self'", source}


@requirement("A-20", "AS15")
def test_the_redirect_to_a_client_is_one_that_is_followed_by_get_and_tells_no_referrer(browser: Client) -> None:
    ask(browser, registered())
    answer = decide(browser, "allow")
    assert answer.status_code == 303
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("decision", "event"), [("allow", AuditEvent.CONSENT_GRANTED), ("deny", AuditEvent.CONSENT_DENIED)]
)
def test_each_decision_leaves_one_record_without_a_secret(
    browser: Client, alice: User, decision: str, event: AuditEvent
) -> None:
    ask(browser, registered(), state="very-secret-state")
    decide(browser, decision)
    record = AuditRecord.objects.filter(event=event).get()
    assert (record.actor, record.server, record.client) == (str(alice.pk), "notes", "client_notes")
    assert record.details["host"] == "client.example.com"
    assert "very-secret-state" not in str(record.details)
    assert "very-secret-state" not in str(PendingAuthorization.objects.values().get())


@requirement("X-11")
@pytest.mark.parametrize("path", ["/oauth/authorize", "/oauth/authorize/6e7ad1a7-97a6-4f0a-9a2b-000000000000"])
@pytest.mark.parametrize("origin", ["https://client.example.com", "null", "http://localhost:8000"])
def test_no_script_of_another_site_reads_the_authorization(browser: Client, path: str, origin: str) -> None:
    preflight = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    for answer in (browser.get(path, headers={"Origin": origin}), browser.options(path, headers=preflight)):
        assert "Access-Control-Allow-Origin" not in answer.headers
