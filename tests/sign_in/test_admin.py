"""Identity providers in the admin."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.test import Client

from connections.models import IdentityProvider
from tests.fakes.openid_provider import FakeOpenIdProvider

ADD = "/admin/connections/identityprovider/add/"
FORM = {
    "name": "Corp", "slug": "corp", "kind": "openid_connect", "issuer": "https://id.example", "client_id": "site",
    "new_client_secret": "provider-secret", "newcomers": "nobody", "email_domains": "", "is_active": "on",
}  # fmt: skip


def test_the_secret_is_sealed_and_never_shown_again(client: Client, administrator: User) -> None:
    client.force_login(administrator)
    assert client.post(ADD, FORM).status_code == 302
    row = IdentityProvider.objects.get()
    assert row.client_secret_sealed.reveal().reveal() == "provider-secret"
    address = f"/admin/connections/identityprovider/{row.pk}/change/"
    for page in (client.get(address), client.get(f"/admin/connections/identityprovider/{row.pk}/history/")):
        assert "provider-secret" not in page.content.decode()
    assert "/accounts/corp/login/callback/" in client.get(address).content.decode()


def test_an_empty_box_keeps_the_secret_and_the_issuer_stays(
    client: Client, administrator: User, provider: FakeOpenIdProvider
) -> None:
    client.force_login(administrator)
    row = IdentityProvider.objects.get()
    changed = {**FORM, "name": "Renamed", "issuer": "https://evil.example", "slug": "other", "new_client_secret": ""}
    assert client.post(f"/admin/connections/identityprovider/{row.pk}/change/", changed).status_code == 302
    row.refresh_from_db()
    assert (row.name, row.issuer, row.slug) == ("Renamed", provider.issuer, "corp")
    assert row.client_secret_sealed.reveal().reveal() == "provider-secret"


def test_there_is_one_place_for_providers_and_none_for_a_secret_that_is_not_sealed(
    client: Client, administrator: User
) -> None:
    client.force_login(administrator)
    shown = client.get("/admin/").content.decode()
    assert "Identity providers" in shown
    assert "socialapp" not in shown
    assert "socialtoken" not in shown
    assert client.get("/admin/socialaccount/socialapp/add/").status_code == 404


def test_the_password_is_changed_on_the_page_of_the_account(client: Client, administrator: User) -> None:
    client.force_login(administrator)
    answer = client.get("/admin/password_change/")
    assert (answer.status_code, answer["Location"]) == (302, "/accounts/password/change/")


def test_how_things_stand_is_said_on_the_first_page_alone(client: Client, administrator: User) -> None:
    client.force_login(administrator)
    assert "How things stand" in client.get("/admin/").content.decode()
    of_one_app = client.get("/admin/audit/").content.decode()
    assert "How things stand" not in of_one_app
    assert "Audit records" in of_one_app
