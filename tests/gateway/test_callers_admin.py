"""Whose tokens a server takes, as administrators enter it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import Client

from audit.models import AuditRecord
from connections.models import McpServer
from gateway.callers.changes import keep_trust
from gateway.models import InboundTrust
from tests.requirements import requirement

pytestmark = pytest.mark.django_db
ADD = "/admin/gateway/inboundtrust/add/"
SECRET = "marker-of-the-issuer"
GOOD: dict[str, Any] = {
    "kind": "introspection", "issuer": "https://issuer.example", "scope": "mcp:access", "person_by": "subject",
    "algorithms": ["ES256"], "introspection_endpoint": "https://issuer.example/introspect", "client_id": "gateway",
    "new_client_secret": SECRET, "cache_seconds": "15",
}  # fmt: skip


@pytest.fixture
def server() -> McpServer:
    return McpServer.objects.create(name="Notes", slug="notes", url="https://notes.example/mcp", gateway_enabled=True)


@pytest.fixture
def browser(administrator: User) -> Client:
    browser = Client()
    browser.force_login(administrator)
    return browser


def _change(server: McpServer) -> str:
    return f"/admin/gateway/inboundtrust/{server.pk}/change/"


def _recorded() -> list[tuple[str, str, list[str]]]:
    records = AuditRecord.objects.filter(event="policy.changed").order_by("sequence")
    return [(record.reason, record.details["kind"], record.details["fields"]) for record in records]


def test_rules_are_entered_changed_and_deleted_with_a_record_each_and_no_secret_anywhere(
    server: McpServer, browser: Client
) -> None:
    assert browser.post(ADD, {**GOOD, "server": str(server.pk)}).status_code == 302
    trust = server.inbound_trust
    assert trust.client_secret_sealed.reveal().reveal() == SECRET
    first = trust.version
    browser.post(_change(server), {**GOOD, "new_client_secret": "", "cache_seconds": "60"})
    trust.refresh_from_db()
    assert (trust.cache_seconds, trust.client_secret_sealed.reveal().reveal()) == (60, SECRET)
    assert trust.version != first
    browser.post(_change(server), {**GOOD, "new_client_secret": "", "cache_seconds": "60"})
    browser.post(_change(server).replace("change", "delete"), {"post": "yes"})
    assert not InboundTrust.objects.exists()
    reasons = [(reason, kind) for reason, kind, _ in _recorded()]
    assert reasons == [("callers_changed", "introspection")] * 2 + [("callers_deleted", "introspection")]
    assert _recorded()[1][2] == ["cache_seconds"]


def test_the_page_never_shows_the_secret(server: McpServer, browser: Client) -> None:
    browser.post(ADD, {**GOOD, "server": str(server.pk)})
    for address in (_change(server), f"{_change(server).replace('change', 'history')}", "/admin/gateway/inboundtrust/"):
        assert SECRET not in browser.get(address).content.decode()
    assert SECRET not in str(AuditRecord.objects.values())


def test_the_secret_is_erased_when_it_would_go_to_somebody_else(server: McpServer, browser: Client) -> None:
    browser.post(ADD, {**GOOD, "server": str(server.pk)})
    elsewhere = {**GOOD, "new_client_secret": "", "introspection_endpoint": "https://other.example/introspect"}
    page = browser.post(_change(server), elsewhere, follow=True).content.decode()
    assert "Erased, because it belonged to the old issuer" in page
    assert not InboundTrust.objects.get().client_secret_sealed
    assert _recorded()[-1][2] == ["client_secret", "introspection_endpoint"]
    trust = InboundTrust.objects.get()
    browser.post(_change(server), {**elsewhere, "new_client_secret": "another"})
    trust.refresh_from_db()
    assert trust.client_secret_sealed.reveal().reveal() == "another"


def test_the_form_begins_with_usual_algorithms_and_the_server_it_was_opened_for(
    server: McpServer, browser: Client
) -> None:
    page = browser.get(f"{ADD}?server={server.pk}").content.decode()
    assert page.count('name="algorithms" value') == 11
    assert page.count("checked") == 4
    assert f'<option value="{server.pk}" selected>' in page
    browser.post(ADD, {**GOOD, "server": str(server.pk)})
    page = browser.get(_change(server)).content.decode()
    assert '<code class="site-copy">http://localhost:8000/mcp/notes</code>' in page
    assert page.count("checked") == 1


WRONG: dict[str, dict[str, Any]] = {
    "issuer": {"issuer": ""},
    "issuer, no address": {"issuer": "issuer.example"},
    "issuer, this site": {"issuer": "http://localhost:8000"},
    "jwks_uri, another scheme": {"jwks_uri": "file:///etc/passwd"},
    "jwks_uri, with a password": {"jwks_uri": "https://u:p@issuer.example/jwks"},
    "introspection_endpoint": {"introspection_endpoint": ""},
    "introspection_endpoint, disguised": {"introspection_endpoint": "https://2130706433/i"},
    "client_id": {"client_id": ""},
    "new_client_secret": {"new_client_secret": ""},
    "audience, of another server": {"audience": "http://localhost:8000/mcp/other"},
    "audience, of our interface": {"audience": "http://localhost:8000/api/v1"},
    "scope": {"scope": " "},
    "scope, unreadable": {"scope": 'a"b'},
    "scope, offline": {"scope": "offline_access"},
    "broader_scope": {"broader_scope": "ä"},
    "username_claim": {"person_by": "username"},
    "username_claim, unreadable": {"person_by": "username", "username_claim": "a b"},
    "algorithms": {"kind": "issuer", "algorithms": []},
    "algorithms, by a public key": {"kind": "issuer", "algorithms": ["HS256"]},
    "algorithms, none": {"kind": "issuer", "algorithms": ["none"]},
    "cache_seconds": {"cache_seconds": "61"},
}  # fmt: skip


def test_what_does_not_fit_is_told_at_its_field_and_nothing_is_saved(server: McpServer, browser: Client) -> None:
    for name, changes in WRONG.items():
        answer = browser.post(ADD, {**GOOD, "server": str(server.pk), **changes})
        assert answer.status_code == 200, name
        assert set(answer.context["adminform"].form.errors) == {name.partition(",")[0]}, name
    assert not InboundTrust.objects.exists()


@requirement("T-04")
def test_no_two_servers_share_an_audience_of_one_issuer(server: McpServer) -> None:
    other = McpServer.objects.create(name="O", slug="other", url="https://o.example/mcp")
    same = {"kind": "issuer", "issuer": "https://issuer.example", "audience": "api://notes"}
    InboundTrust.objects.create(server=server, **same)
    with pytest.raises(ValidationError):
        InboundTrust(server=other, **same).full_clean()
    with transaction.atomic(), pytest.raises(IntegrityError):
        InboundTrust.objects.create(server=other, **same)
    InboundTrust.objects.create(server=other, **{**same, "audience": ""})


def test_it_takes_permissions_of_its_own(server: McpServer) -> None:
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(content_type__app_label="connections"))
    browser = Client()
    browser.force_login(clerk)
    assert browser.get(ADD).status_code == 403
    assert browser.post(ADD, {**GOOD, "server": str(server.pk)}).status_code == 403
    clerk.user_permissions.add(Permission.objects.get(codename="add_inboundtrust"))
    assert browser.post(ADD, {**GOOD, "server": str(server.pk)}).status_code == 302


def test_a_server_can_be_deleted_with_its_rules(server: McpServer, browser: Client, administrator: User) -> None:
    keep_trust(InboundTrust(server=server), fields=["kind"], actor=administrator)
    browser.post(f"/admin/connections/mcpserver/{server.pk}/delete/", {"post": "yes"})
    assert not McpServer.objects.exists()
