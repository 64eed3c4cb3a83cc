"""Second factors: asked for at the sign-in, sealed at rest, and needed for the administration where that is set."""

from __future__ import annotations

import time
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.contrib.auth.models import User
from django.test import Client

from connections.models import IdentityProvider
from connections.sealed_stores import Change
from connections.sealing import seal
from mcp_oauth_site.sign_in.second_factors import SecondFactorStore
from oauthflow.protocol.secret import Secret
from tests.fakes.openid_provider import FakeOpenIdProvider
from tests.sign_in.test_providers import come_back, leave

PASSWORD = "correct horse battery"


def sign_in(browser: Client, name: str, *, password: str = PASSWORD) -> Any:
    return browser.post("/accounts/login/", {"login": name, "password": password})


def code(secret: str, *, steps: int = 0) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + steps))


def set_up(browser: Client) -> str:
    """Switch on the second factor as a person does; returns its seed."""
    page = browser.get("/accounts/2fa/totp/activate/")
    secret: str = page.context["form"].secret
    answer = browser.post("/accounts/2fa/totp/activate/", {"code": code(secret)})
    assert answer.status_code == 302, answer.content.decode()
    return secret


def test_a_code_is_asked_for_after_the_password_and_its_seed_is_sealed(alice: User) -> None:
    browser = Client()
    sign_in(browser, "alice")
    secret = set_up(browser)
    kept = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in kept
    later = Client()
    assert sign_in(later, "alice")["Location"].startswith("/accounts/2fa/authenticate/")
    assert "_auth_user_id" not in later.session
    later.post("/accounts/2fa/authenticate/", {"code": "000000"})
    assert "_auth_user_id" not in later.session
    later.post("/accounts/2fa/authenticate/", {"code": code(secret, steps=1)})
    assert later.session["_auth_user_id"] == str(alice.pk)


def test_six_wrong_passwords_close_the_door_for_that_account_but_not_for_others(alice: User, bob: User) -> None:
    browser = Client()
    for _ in range(5):
        sign_in(browser, "alice", password="wrong")
    assert "Too many failed login attempts" in sign_in(browser, "alice").content.decode()
    assert "_auth_user_id" not in browser.session
    sign_in(browser, "bob")
    assert browser.session["_auth_user_id"] == str(bob.pk)
    assert "_auth_user_id" not in _attempt_from_elsewhere().session


def _attempt_from_elsewhere() -> Client:
    """Neither a forged header nor another address opens it again."""
    browser = Client(REMOTE_ADDR="198.51.100.7", HTTP_X_FORWARDED_FOR="203.0.113.9")
    sign_in(browser, "alice")
    return browser


def test_a_forged_address_does_not_spare_anybody_the_limit(alice: User) -> None:
    answers = [
        Client(HTTP_X_FORWARDED_FOR=f"203.0.113.{number}").post(
            "/accounts/login/", {"login": f"nobody-{number}", "password": "x"}
        )
        for number in range(61)
    ]
    assert answers[-1].status_code == 429


def test_the_administration_asks_for_a_second_factor_where_that_is_set(settings: Any, administrator: User) -> None:
    settings.ADMIN_SECOND_FACTOR = True
    browser = Client()
    sign_in(browser, "root")
    answer = browser.get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0] == "/accounts/2fa/"
    assert "needs a second factor" in answer.content.decode()
    secret = set_up(browser)
    later = Client()
    sign_in(later, "root")
    later.post("/accounts/2fa/authenticate/", {"code": code(secret, steps=1)})
    assert later.get("/admin/").status_code == 200


def test_staff_who_came_through_a_provider_may_enter_the_administration(
    settings: Any, provider: FakeOpenIdProvider
) -> None:
    settings.ADMIN_SECOND_FACTOR = True
    provider.claims = {"preferred_username": "carol"}
    come_back(browser := Client(), leave(browser))
    User.objects.update(is_staff=True, is_superuser=True)
    assert browser.get("/admin/").status_code == 200


def test_the_rotation_of_keys_knows_the_seeds_and_writes_only_over_what_it_read(alice: User) -> None:
    browser = Client()
    sign_in(browser, "alice")
    set_up(browser)
    store = SecondFactorStore()
    (held,) = [held for held in store.rows() if held.values[0]]
    assert list(store.unopened()) == []
    new = (str.__str__(seal(Secret("JBSWY3DPEHPK3PXP"), context="mfa.authenticator")), "")
    assert store.replace([Change(held, new)]) == 1
    assert store.replace([Change(held, new)]) == 0
    Authenticator.objects.filter(pk=held.key).update(data={"secret": "damaged"})
    assert list(store.unopened()) == [f"mfa.Authenticator.secret {held.key}"]


@pytest.mark.parametrize("page", ["/accounts/", "/accounts/2fa/", "/accounts/password/change/", "/accounts/3rdparty/"])
def test_pages_of_the_account_are_for_those_who_are_signed_in(page: str, alice: User) -> None:
    assert Client().get(page).status_code == 302
    browser = Client()
    sign_in(browser, "alice")
    assert browser.get(page).status_code == 200


def test_nobody_makes_an_account_by_themselves(db: None) -> None:
    assert Client().get("/accounts/signup/").status_code == 404
    assert IdentityProvider.objects.count() == 0
