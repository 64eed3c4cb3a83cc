"""The page on which people choose how often they want e-mail."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from oauthflow.models import MailPreference

pytestmark = pytest.mark.django_db

PAGE = "/accounts/mail"


def test_a_person_chooses_and_the_page_shows_it(alice: User, bob: User, client: Client, settings: Settings) -> None:
    settings.EMAIL_ENABLED = True
    client.force_login(alice)
    assert f'href="{PAGE}"' in client.get("/accounts/").content.decode()
    page = client.get(PAGE).content.decode()
    assert "alice@example.com" in page
    assert 'value="immediately" checked' in page
    for rhythm, has_digest in (("weekly", True), ("off", False), ("immediately", False)):
        assert client.post(PAGE, {"rhythm": rhythm}).status_code == 303
        assert f'value="{rhythm}" checked' in client.get(PAGE).content.decode()
        found = MailPreference.objects.get()
        assert (found.user, found.digest_due_at is not None) == (alice, has_digest)


@pytest.mark.parametrize("rhythm", ["", "hourly"])
def test_another_word_changes_nothing(rhythm: str, alice: User, client: Client) -> None:
    client.force_login(alice)
    assert client.post(PAGE, {"rhythm": rhythm}).status_code == 200
    assert not MailPreference.objects.exists()


def test_who_gets_none_anyway_is_told_why(alice: User, client: Client, settings: Settings) -> None:
    client.force_login(alice)
    settings.EMAIL_ENABLED = False
    assert "sends no e-mail at the moment" in client.get(PAGE).content.decode()
    settings.EMAIL_ENABLED = True
    User.objects.update(email="")
    assert "has no e-mail address" in client.get(PAGE).content.decode()


def test_somebody_unknown_signs_in_first_and_comes_back(client: Client) -> None:
    assert client.get(PAGE).headers["Location"] == f"/accounts/login/?next={PAGE}"
