"""The sign-in page says for which program somebody signs in, before anybody is sent to a third party."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.test import Client

from tests.fakes.internet import FakeInternet
from tests.requirements import requirement

from .asking import TYPED, address, gateway_server, registered

pytestmark = pytest.mark.django_db
HOST = settings.PUBLIC_URL.partition("//")[2]


def read(page: str) -> str:
    """The panel as text; empty where there is none."""
    found = re.search(r'<div class="whereto">(.*?)</div>', page, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split()) if found else ""


def panel(browser: Client, target: str) -> str:
    return read(browser.get(f"/accounts/login/?{urlencode({'next': target})}").content.decode())


@requirement("P-01", "P-03", "P-05", "AS08")
def test_a_program_that_sends_somebody_here_is_named_before_the_sign_in(client: Client) -> None:
    gateway_server()
    program = registered()
    page = client.get(address(program), headers=TYPED, follow=True).content.decode()
    said = read(page)
    assert "Not verified" in said
    assert "calls itself “Notes program”" in said
    assert "answer goes to client.example.com" in said
    assert f"{HOST}/mcp/notes" in said
    assert page.index("whereto") < page.index('name="password"')
    assert panel(client, f"{settings.PUBLIC_URL}{address(program)}") == said
    again = client.post("/accounts/login/", {"login": "alice", "password": "wrong", "next": address(program)})
    assert read(again.content.decode()) == said


@requirement("P-03")
def test_a_program_that_an_administrator_vouches_for_is_told_apart(client: Client) -> None:
    said = panel(client, address(registered(verified=True)))
    assert "Verified by your administrator “Notes program” wants" in said
    assert "calls itself" not in said


@requirement("P-03", "AS03")
def test_what_a_program_calls_itself_cannot_be_markup(client: Client) -> None:
    page = client.get(f"/accounts/login/?{urlencode({'next': address(registered(name='<b>Bank</b>'))})}")
    assert "<b>Bank" not in page.content.decode()


@requirement("P-03", "AS04")
def test_of_a_metadata_document_only_its_host_is_told_and_nobody_fetches_it(
    client: Client, internet: FakeInternet
) -> None:
    program = registered()
    target = address(program, client_id="https://program.example/client.json")
    said = panel(client, target)
    assert "described by program.example" in said
    assert "client.example.com" not in said
    assert internet.calls == []


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "client_nobody"},
        {"client_id": ["client_notes", "client_notes"]},
        {"client_id": "https://program.example/"},
        {"redirect_uri": "https://evil.example/cb"},
    ],
)
def test_what_would_be_refused_is_not_dressed_up(client: Client, changed: dict[str, str | list[str] | None]) -> None:
    assert panel(client, address(registered(), **changed)) == ""


def test_a_resource_that_is_not_here_lends_nobody_its_name(client: Client) -> None:
    said = panel(client, address(registered(), resource="https://bank.example/mcp"))
    assert "Notes program" in said
    assert "bank.example" not in said


@pytest.mark.parametrize("target", ["/connections/", "", "https://evil.example/oauth/authorize?client_id=client_notes"])
def test_without_a_program_the_page_is_as_it_was(client: Client, target: str) -> None:
    registered()
    assert panel(client, target) == ""
