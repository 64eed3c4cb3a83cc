"""Resources of others, service accounts and exchange policies in the admin."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.models import AuditRecord
from authserver.flows.exchange_token import GRANT_TYPE
from authserver.models import ExchangePolicy, ProtectedResource, ServiceAccount
from connections.models import McpServer
from tests.authserver.grants import RESOURCE, make_client, nothing_remembered
from tests.authserver.token_calls import ask

__all__ = ["nothing_remembered"]
WEATHER = {
    "name": "Weather",
    "resource": "https://weather.example/mcp",
    "scopes": '{"w:read": "Read"}',
    "is_active": "on",
}


@pytest.fixture
def browser(administrator: User) -> Client:
    browser = Client()
    browser.force_login(administrator)
    return browser


def secret_of(page: str) -> str:
    found = re.search(r'<code class="site-copy large">([^<]+)</code>', page)
    assert found, page[-3000:]
    return found[1]


def test_a_resource_is_entered_and_its_secret_shown_once(browser: Client) -> None:
    page = browser.post("/admin/authserver/protectedresource/add/", WEATHER)
    resource = ProtectedResource.objects.get()
    secret = secret_of(page.content.decode())
    assert page.status_code == 200
    assert "no-store" in page.headers["Cache-Control"]
    assert str(resource.pk) in page.content.decode()
    assert ask("/oauth/introspect", {"token": "x"}, basic=(str(resource.pk), secret)).members == {"active": False}
    shown = browser.get(f"/admin/authserver/protectedresource/{resource.pk}/change/").content.decode()
    assert secret not in shown
    assert resource.secret_hash not in shown
    recorded = AuditRecord.objects.get(reason="resource_entered")
    assert secret not in str(recorded.details)
    renewed = secret_of(browser.post(f"/admin/authserver/protectedresource/{resource.pk}/secret/").content.decode())
    assert ask("/oauth/introspect", {"token": "x"}, basic=(str(resource.pk), secret)).status == 401
    assert ask("/oauth/introspect", {"token": "x"}, basic=(str(resource.pk), renewed)).status == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"resource": "ftp://weather.example"}, {"resource": "https://weather.example/mcp#a"}, {"resource": RESOURCE},
        {"scopes": '["w:read"]'}, {"scopes": '{"w:read": ""}'}, {"scopes": '{"w read": "Read"}'}, {"scopes": "{"},
    ],
)  # fmt: skip
def test_a_resource_that_cannot_be_one_is_refused(browser: Client, changes: dict[str, str]) -> None:
    page = browser.post("/admin/authserver/protectedresource/add/", {**WEATHER, **changes})
    assert (page.status_code, ProtectedResource.objects.count()) == (200, 0)
    assert "errorlist" in page.content.decode()


def test_a_resource_is_put_aside_and_never_deleted(browser: Client) -> None:
    browser.post("/admin/authserver/protectedresource/add/", WEATHER)
    resource = ProtectedResource.objects.get()
    path = f"/admin/authserver/protectedresource/{resource.pk}"
    changed = browser.post(f"{path}/change/", {**WEATHER, "is_active": ""})
    assert (changed.status_code, ProtectedResource.objects.get().is_active) == (302, False)
    assert browser.post(f"{path}/delete/", {"post": "yes"}).status_code == 403
    assert ProtectedResource.objects.get().secret_hash == resource.secret_hash


def test_a_service_account_is_given_to_clients_made_for_it_and_only_resources_that_exist(browser: Client) -> None:
    McpServer.objects.create(name="Notes", slug="notes", url="https://notes.example/mcp", gateway_enabled=True)
    fit = make_client("fit", method="client_secret_basic", grant_types=["client_credentials"])
    unfit = make_client("unfit")
    path = "/admin/authserver/serviceaccount/add/"
    for form in (
        {"client": str(unfit.pk), "resources": RESOURCE},
        {"client": str(fit.pk), "resources": "https://elsewhere.example"},
        {"client": str(fit.pk), "resources": ""},
    ):
        assert browser.post(path, form).status_code == 200
    assert not ServiceAccount.objects.exists()
    assert browser.post(path, {"client": str(fit.pk), "resources": f"{RESOURCE}\n"}).status_code == 302
    assert ServiceAccount.objects.get().resources == [RESOURCE]
    assert AuditRecord.objects.get(reason="service_account_changed").client == "fit"
    assert RESOURCE in browser.get("/admin/authserver/serviceaccount/").content.decode()
    browser.post(f"/admin/authserver/serviceaccount/{fit.pk}/delete/", {"post": "yes"})
    assert not ServiceAccount.objects.exists()
    assert AuditRecord.objects.get(reason="service_account_deleted").client == "fit"


def test_an_exchange_policy_names_a_resource_that_exists(browser: Client) -> None:
    server = McpServer.objects.create(name="Notes", slug="notes", url="https://notes.example/mcp", gateway_enabled=True)
    client = make_client("back-end", method="client_secret_basic", grant_types=[GRANT_TYPE])
    form = {"client": str(client.pk), "server": str(server.pk), "subject_resource": RESOURCE}
    path = "/admin/authserver/exchangepolicy/add/"
    assert browser.post(path, {**form, "subject_resource": "https://elsewhere.example"}).status_code == 200
    assert browser.post(path, form).status_code == 302
    assert ExchangePolicy.objects.get().server == server


def test_somebody_without_the_permission_enters_nothing(alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    browser = Client()
    browser.force_login(alice)
    assert browser.post("/admin/authserver/protectedresource/add/", WEATHER).status_code == 403
    resource = ProtectedResource.objects.create(name="W", resource="https://w.example/mcp")
    assert browser.post(f"/admin/authserver/protectedresource/{resource.pk}/secret/").status_code == 403
