"""What authorization servers read about us, the staff's buttons, and the pages for errors."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client, override_settings
from django.utils import timezone

from connections.models import ClientRegistration, FlowTrace
from tests.fakes.world import World
from tests.requirements import requirement

HTTPS = {"PUBLIC_URL": "https://site.example", "CLIENT_METADATA_URL": "https://site.example/oauth/client-metadata.json"}


@requirement("R-05", "R-06")
@override_settings(**HTTPS)
def test_our_metadata_document_names_its_own_address(client: Client) -> None:
    answer = client.get("/oauth/client-metadata.json")
    document = answer.json()
    assert document["client_id"] == "https://site.example/oauth/client-metadata.json"
    assert document["redirect_uris"] == ["https://site.example/api/v1/oauth/callback"]
    assert document["client_name"]
    assert "refresh_token" in document["grant_types"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Cache-Control"] == "public, max-age=3600"


@requirement("R-05")
def test_without_https_there_is_no_metadata_document(client: Client) -> None:
    assert client.get("/oauth/client-metadata.json").status_code == 404


def test_only_the_public_half_of_our_keys_is_published(client: Client) -> None:
    (key,) = client.get("/oauth/client-jwks.json").json()["keys"]
    assert {"kty", "crv", "x", "y", "kid"} <= key.keys()
    assert "d" not in key


@pytest.mark.django_db
def test_the_check_button_says_what_was_found_beside_the_server(
    client: Client, administrator: User, world: World
) -> None:
    server = world.server()
    client.force_login(administrator)
    answer = client.post("/servers/notes/check")
    assert answer.headers["Location"] == f"/admin/connections/mcpserver/{server.pk}/change/"
    assert FlowTrace.objects.get(kind=FlowTrace.Kind.CHECK).ok


@pytest.mark.django_db
def test_the_reset_button_sets_the_registration_aside(client: Client, administrator: User, world: World) -> None:
    world.connect(administrator, now=timezone.now())
    client.force_login(administrator)
    assert client.post("/servers/notes/reset-registration").status_code == 303
    assert ClientRegistration.objects.get().status == ClientRegistration.Status.SUPERSEDED


@pytest.mark.django_db
@pytest.mark.parametrize("action", ["check", "reset-registration", "approve-issuer"])
def test_the_staff_buttons_need_the_named_permission(action: str, client: Client, alice: User, world: World) -> None:
    world.server()
    client.force_login(alice)
    for path in (f"/servers/notes/{action}", f"/servers/unknown/{action}"):
        assert client.post(path).status_code == 403
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    alice.user_permissions.add(Permission.objects.get(codename="view_mcpserver"))
    assert client.post(f"/servers/notes/{action}").status_code == (303 if action == "check" else 403)
    assert client.get(f"/servers/notes/{action}").status_code == 405


@pytest.mark.django_db
def test_an_approval_without_a_change_says_so(client: Client, administrator: User, world: World) -> None:
    server = world.server()
    client.force_login(administrator)
    answer = client.post("/servers/notes/approve-issuer")
    assert answer.headers["Location"] == f"/admin/connections/mcpserver/{server.pk}/change/"


def test_an_unknown_address_has_a_page_with_a_way_on(client: Client) -> None:
    answer = client.get("/nowhere")
    assert answer.status_code == 404
    assert "/connections/" in answer.content.decode()


def test_the_sign_in_page_labels_its_fields(client: Client, db: None) -> None:
    page = client.get("/accounts/login/").content.decode()
    assert '<label for="id_login">' in page
    assert '<label for="id_password">' in page
    assert 'autocomplete="current-password"' in page
