"""Sign-in through a third party: who comes in, as whom, and what is asked of whom."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.socialaccount.models import SocialAccount, SocialToken
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client

from audit.models import AuditRecord
from connections.models import IdentityProvider
from tests.fakes.internet import FakeInternet
from tests.fakes.openid_provider import FakeOpenIdProvider, query_of
from tests.requirements import requirement

START = "/accounts/corp/login/"
BACK = "/accounts/corp/login/callback/"


def leave(browser: Client, *, start: str = START, **form: str) -> dict[str, str]:
    """Click the provider's button; returns what the browser takes along."""
    answer = browser.post(start, form)
    assert answer.status_code == 302, answer.content
    assert answer["Location"].startswith("https://id.example/authorize?")
    return query_of(answer["Location"])


def come_back(browser: Client, taken: dict[str, str]) -> Any:
    return browser.get(BACK, {"code": "a-code", "state": taken["state"]})


def signed_in_as(browser: Client) -> str:
    return browser.session.get("_auth_user_id", "")


def test_somebody_new_gets_an_account_and_comes_back_as_the_same_person(provider: FakeOpenIdProvider) -> None:
    provider.claims = {"preferred_username": "carol", "email": "carol@corp.example", "email_verified": True}
    browser = Client()
    answer = come_back(browser, leave(browser, next="/oauth/paste"))
    assert (answer.status_code, answer["Location"]) == (302, "/oauth/paste")
    carol = User.objects.get(username="carol")
    assert signed_in_as(browser) == str(carol.pk)
    assert (carol.has_usable_password(), carol.is_staff, carol.email) == (False, False, "carol@corp.example")
    again = Client()
    come_back(again, leave(again))
    assert signed_in_as(again) == str(carol.pk)
    assert User.objects.count() == 1
    assert SocialToken.objects.count() == 0


@requirement("P-10")
def test_pkce_and_a_fresh_state_go_along_and_the_secret_goes_to_the_token_endpoint_only(
    provider: FakeOpenIdProvider, internet: FakeInternet
) -> None:
    browser = Client()
    first, second = leave(browser), leave(browser)
    assert first["state"] != second["state"]
    assert first["code_challenge_method"] == "S256"
    assert first["redirect_uri"].endswith(BACK)
    come_back(browser, second)
    assert provider.token_requests[0]["code_verifier"]
    assert [call.path for call in internet.calls if "provider-secret" in call.body + call.url] == ["/token"]


@requirement("P-12", "P-13")
def test_an_answer_in_another_browser_or_a_second_time_signs_nobody_in(provider: FakeOpenIdProvider) -> None:
    browser, other = Client(), Client()
    taken = leave(browser)
    assert "did not work" in come_back(other, taken).content.decode()
    assert not signed_in_as(other)
    assert provider.token_requests == []
    come_back(browser, taken)
    browser.post("/accounts/logout/")
    come_back(browser, taken)
    assert not signed_in_as(browser)
    assert len(provider.token_requests) == 1


@requirement("P-11")
def test_a_link_alone_sends_nobody_to_a_provider(provider: FakeOpenIdProvider, internet: FakeInternet) -> None:
    browser = Client()
    answer = browser.get(START, {"next": "/oauth/paste"})
    assert (answer.status_code, answer["Location"]) == (303, "/accounts/login/?next=%2Foauth%2Fpaste")
    assert internet.calls == []
    assert not browser.session.keys()


def test_the_same_address_at_a_provider_is_not_the_same_person(provider: FakeOpenIdProvider, alice: User) -> None:
    provider.claims = {"preferred_username": "alice", "email": alice.email, "email_verified": True}
    browser = Client()
    come_back(browser, leave(browser))
    assert signed_in_as(browser) != str(alice.pk)
    assert User.objects.exclude(pk=alice.pk).get().username != "alice"


def test_another_subject_is_another_person(provider: FakeOpenIdProvider) -> None:
    for subject in ("subject-1", "subject-2"):
        provider.subject = subject
        provider.claims = {"preferred_username": "dave"}
        browser = Client()
        come_back(browser, leave(browser))
    assert User.objects.count() == 2


def test_an_address_that_is_not_verified_is_not_kept(provider: FakeOpenIdProvider) -> None:
    provider.claims = {"preferred_username": "erin", "email": "erin@corp.example"}
    browser = Client()
    come_back(browser, leave(browser))
    assert User.objects.get(username="erin").email == ""


@pytest.mark.parametrize(
    ("claims", "comes_in"),
    [
        ({"email": "a@corp.example", "email_verified": True}, True),
        ({"email": "a@corp.example", "email_verified": False}, False),
        ({"email": "a@corp.example.evil.example", "email_verified": True}, False),
        ({}, False),
    ],
)
def test_newcomers_of_a_domain_need_its_verified_address(
    claims: dict[str, Any], comes_in: bool, provider: FakeOpenIdProvider
) -> None:
    IdentityProvider.objects.update(newcomers="domains", email_domains="corp.example other.example")
    provider.claims = {"preferred_username": "frank", **claims}
    browser = Client()
    page = come_back(browser, leave(browser))
    assert bool(signed_in_as(browser)) is comes_in
    assert ("You have no account here" in page.content.decode()) is not comes_in


def test_nobody_new_comes_in_where_accounts_are_made_by_administrators(provider: FakeOpenIdProvider) -> None:
    IdentityProvider.objects.update(newcomers="nobody")
    browser = Client()
    assert "You have no account here" in come_back(browser, leave(browser)).content.decode()
    assert User.objects.count() == 0


def test_somebody_links_a_provider_to_an_account_and_signs_in_by_it(provider: FakeOpenIdProvider, alice: User) -> None:
    IdentityProvider.objects.update(newcomers="nobody")
    browser = Client()
    browser.post("/accounts/login/", {"login": "alice", "password": "correct horse battery"})
    come_back(browser, leave(browser, start=f"{START}?process=connect", next="/accounts/"))
    assert SocialAccount.objects.get().user == alice
    assert "Unlink Corp" in browser.get("/accounts/").content.decode()
    later = Client()
    come_back(later, leave(later))
    assert signed_in_as(later) == str(alice.pk)


def test_somebody_who_was_deactivated_does_not_come_in(provider: FakeOpenIdProvider) -> None:
    provider.claims = {"preferred_username": "grace"}
    browser = Client()
    come_back(browser, leave(browser))
    User.objects.update(is_active=False)
    later = Client()
    come_back(later, leave(later))
    assert not signed_in_as(later)


def test_a_provider_that_is_off_or_unknown_is_not_there(provider: FakeOpenIdProvider) -> None:
    IdentityProvider.objects.update(is_active=False)
    for address in (START, BACK, "/accounts/github/login/", "/accounts/github/login/callback/", "/accounts/no/login/"):
        assert Client().get(address).status_code == 404
    assert "Continue with" not in Client().get("/accounts/login/").content.decode()


def test_a_provider_that_answers_as_another_issuer_is_refused_and_recorded(provider: FakeOpenIdProvider) -> None:
    provider.names_issuer = "https://evil.example"
    browser = Client()
    page = come_back(browser, leave(browser))
    assert "did not work" in page.content.decode()
    assert not signed_in_as(browser)
    assert AuditRecord.objects.get(event="login.failed").reason == "corp: PermissionDenied"


@pytest.mark.parametrize("trouble", ["status", "redirect"])
def test_a_provider_in_trouble_costs_a_message_and_no_word_of_it_is_repeated(
    trouble: str, provider: FakeOpenIdProvider, internet: FakeInternet
) -> None:
    if trouble == "status":
        provider.status = 500
    else:
        provider.redirects_to = "https://inside.example/"
    browser = Client()
    answer = browser.post(START)
    assert (answer.status_code, answer["Location"]) == (303, "/accounts/login/")
    page = browser.get("/accounts/login/").content.decode()
    assert "Corp cannot be reached" in page
    assert "database password" not in page
    assert internet.calls_to("inside.example") == []


def test_trouble_after_the_person_came_back_is_told_without_a_word_of_the_provider(
    provider: FakeOpenIdProvider,
) -> None:
    browser = Client()
    taken = leave(browser)
    provider.status = 500
    assert come_back(browser, taken)["Location"] == "/accounts/login/"
    page = browser.get("/accounts/login/").content.decode()
    assert "Corp cannot be reached" in page
    assert "database password" not in page


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"slug": "login"}, "slug"),
        ({"slug": "goo", "kind": "google"}, "slug"),
        ({"issuer": ""}, "issuer"),
        ({"issuer": "javascript:alert(1)"}, "issuer"),
        ({"newcomers": "domains"}, "email_domains"),
    ],
)
def test_what_makes_no_sense_cannot_be_configured(fields: dict[str, str], problem: str) -> None:
    row = IdentityProvider(**{"name": "X", "slug": "x", "issuer": "https://id.example", **fields})
    with pytest.raises(ValidationError) as caught:
        row.clean()
    assert problem in caught.value.message_dict


def test_google_is_known_by_its_issuer_and_github_has_none() -> None:
    google = IdentityProvider(name="Google", slug="google", kind="google")
    google.clean()
    github = IdentityProvider(name="GitHub", slug="github", kind="github", issuer="https://x.example")
    github.clean()
    assert (google.issuer, github.issuer) == ("https://accounts.google.com", "")
