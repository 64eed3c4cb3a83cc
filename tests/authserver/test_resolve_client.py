"""Client ID Metadata Documents: when they are fetched, what they change, and what they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.utils import timezone

from audit.events import AuditEvent
from audit.models import AuditRecord
from authserver.flows import begin_authorization
from authserver.flows.resolve_client import resolve_client
from authserver.models import Consent, McpClient
from authserver.protocol.errors import TooManyRequestsError, UnknownClientError
from tests.fakes.internet import Answer, Call, FakeInternet
from tests.requirements import requirement

from .asking import CALLBACK, TYPED, address, ask, back, decide, gateway_server, host_of, registered
from .grants import make_consent, make_family

pytestmark = pytest.mark.django_db

URL = "https://vendor.example/oauth/client.json"
DOCUMENT: dict[str, Any] = {
    "client_id": URL,
    "client_name": "Vendor",
    "redirect_uris": [CALLBACK],
    "grant_types": ["authorization_code", "refresh_token"],
}
PROGRAM = McpClient(client_id=URL)


class Vendor:
    """Serves the document; every part of the answer can be changed."""

    def __init__(self) -> None:
        self.answer = Answer(200, DOCUMENT)
        self.keys: Any = {}

    def __call__(self, call: Call) -> Answer:
        return Answer(200, self.keys) if call.path == "/keys" else self.answer

    def says(self, document: Any = None, *, status: int = 200, **headers: str) -> None:
        self.answer = Answer(status, DOCUMENT if document is None else document, headers)


@pytest.fixture
def vendor(internet: FakeInternet) -> Vendor:
    vendor = Vendor()
    internet["https://vendor.example"] = vendor
    return vendor


@pytest.fixture
def browser(alice: User, client: Client) -> Client:
    client.force_login(alice)
    gateway_server()
    return client


@requirement("R-03", "R-08", "R-11")
def test_a_program_known_by_its_document_is_asked_about_and_gets_its_code(
    browser: Client, vendor: Vendor, internet: FakeInternet
) -> None:
    page = ask(browser, PROGRAM)
    assert "Vendor" in page.content.decode()
    assert back(decide(browser, "allow"))["code"]
    row = McpClient.objects.get()
    assert (row.kind, row.client_id, row.verified) == (McpClient.Kind.METADATA_DOCUMENT, URL, False)
    assert [call.url for call in internet.calls] == [URL]
    assert "Authorization" not in internet.calls[0].headers
    assert "Cookie" not in internet.calls[0].headers


@requirement("AS04")
@pytest.mark.parametrize("changed", [{}, {"redirect_uri": "https://evil.example/"}, {"prompt": "none"}])
def test_before_a_sign_in_nothing_is_fetched(
    client: Client, internet: FakeInternet, db: None, changed: dict[str, str]
) -> None:
    response = client.get(address(PROGRAM, **changed), headers=TYPED)
    assert response.status_code in (302, 400)
    assert host_of(response) == ""
    assert internet.calls == []


def test_whoever_is_sent_here_too_often_makes_us_fetch_nothing_more(
    browser: Client, vendor: Vendor, internet: FakeInternet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(begin_authorization, "STARTS_A_MINUTE", 0)
    assert browser.get(address(PROGRAM)).status_code == 429
    assert internet.calls == []


@requirement("R-11", "AS01")
def test_a_redirect_uri_that_is_not_in_the_document_is_a_page(browser: Client, vendor: Vendor) -> None:
    response = browser.get(address(PROGRAM, redirect_uri="https://evil.example/cb"), headers=TYPED)
    assert response.status_code == 400
    assert "Location" not in response.headers


BROKEN: list[Callable[[Vendor], None]] = [
    lambda vendor: vendor.says(status=404),
    lambda vendor: vendor.says(status=500),
    lambda vendor: vendor.says(status=201),
    lambda vendor: vendor.says("", status=302, Location="https://vendor.example/other"),
    lambda vendor: vendor.says("", status=301, Location=URL),
    lambda vendor: vendor.says("<html></html>"),
    lambda vendor: vendor.says(DOCUMENT | {"client_id": f"{URL}/"}),
    lambda vendor: vendor.says(DOCUMENT | {"client_secret": "x"}),
    lambda vendor: vendor.says(DOCUMENT | {"token_endpoint_auth_method": "client_secret_basic"}),
    lambda vendor: vendor.says(DOCUMENT | {"padding": "x" * 5120}),
    lambda vendor: vendor.says(
        DOCUMENT | {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://127.0.0.1/keys"}
    ),
]


@requirement("R-12", "R-13", "AS04")
@pytest.mark.parametrize("breaks", BROKEN)
def test_a_document_that_is_not_right_lets_nobody_in_and_is_asked_for_again(
    vendor: Vendor, internet: FakeInternet, breaks: Callable[[Vendor], None], db: None
) -> None:
    now = timezone.now()
    breaks(vendor)
    with pytest.raises(UnknownClientError):
        resolve_client(URL, now=now)
    assert not McpClient.objects.exists()
    assert AuditRecord.objects.count() == 1
    vendor.says()
    assert resolve_client(URL, now=now).name == "Vendor"
    assert len(internet.calls) == 2


@requirement("R-13", "U-01", "U-03", "AS04")
@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/c", "https://127.0.0.1:8443/c", "https://[::1]/c", "https://10.0.0.1/c", "https://169.254.169.254/c",
        "https://192.168.1.1/c", "https://[fd00::1]/c", "https://[::ffff:127.0.0.1]/c", "https://0.0.0.0/c",
    ],
)  # fmt: skip
def test_a_document_inside_our_network_is_not_asked_for(internet: FakeInternet, url: str, db: None) -> None:
    with pytest.raises(UnknownClientError):
        resolve_client(url, now=timezone.now())
    assert internet.calls == []
    assert AuditRecord.objects.get().event == AuditEvent.EGRESS_BLOCKED


@pytest.mark.parametrize(
    "url", ["https://vendor.example/", "https://vendor.example/a/../c", "https://u@vendor.example/c", "https://x"]
)
def test_an_address_that_cannot_be_a_client_id_is_not_asked_for(internet: FakeInternet, url: str, db: None) -> None:
    with pytest.raises(UnknownClientError):
        resolve_client(url, now=timezone.now())
    assert internet.calls == []


@requirement("R-10", "AS04")
def test_a_document_is_asked_for_again_when_its_time_is_over_and_not_before(
    vendor: Vendor, internet: FakeInternet, db: None
) -> None:
    now = timezone.now()
    vendor.says(**{"Cache-Control": "max-age=600"})
    for seconds, fetched in ((0, 1), (599, 1), (601, 2), (1100, 2)):
        resolve_client(URL, now=now + timedelta(seconds=seconds))
        assert len(internet.calls) == fetched


@requirement("AS04")
@pytest.mark.parametrize(
    ("changed", "ends"),
    [
        ({"client_name": "Other"}, True),
        ({"redirect_uris": [CALLBACK, "https://new.example/cb"]}, True),
        ({"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://vendor.example/keys"}, True),
        ({"logo_uri": "https://vendor.example/logo.png"}, False),
        ({}, False),
    ],
)
def test_a_document_that_changed_asks_for_consent_again_and_ends_the_tokens(
    browser: Client, alice: User, vendor: Vendor, changed: dict[str, Any], ends: bool
) -> None:
    row = resolve_client(URL, now=timezone.now())
    McpClient.objects.update(verified=True)
    family = make_family(make_consent(alice, row))
    McpClient.objects.update(document_expires_at=timezone.now())
    vendor.says(DOCUMENT | changed)
    vendor.keys = KEYS
    assert ask(browser, PROGRAM).status_code == 200
    family.refresh_from_db()
    row.refresh_from_db()
    assert (family.ended_at is not None) == ends
    assert row.verified != ends
    assert Consent.objects.standing().exists() != ends
    assert AuditRecord.objects.filter(event=AuditEvent.CLIENT_GRANT_REVOKED).exists() == ends


KEYS = {"keys": [{"kty": "EC", "crv": "P-256", "x": "eA", "y": "eQ", "kid": "1"}]}
KEYED = DOCUMENT | {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://keys.example/jwks"}


@requirement("R-07")
def test_keys_are_fetched_with_the_document_and_are_not_what_a_person_relied_on(
    vendor: Vendor, internet: FakeInternet, alice: User
) -> None:
    vendor.says(KEYED)
    internet["https://keys.example"] = lambda call: Answer(200, KEYS)
    row = resolve_client(URL, now=timezone.now())
    assert row.jwks == KEYS
    consent = make_consent(alice, row)
    internet["https://keys.example"] = lambda call: Answer(200, {"keys": [KEYS["keys"][0] | {"kid": "2"}]})
    row = resolve_client(URL, now=timezone.now() + timedelta(days=2))
    assert row.jwks is not None
    assert row.jwks != KEYS
    consent.refresh_from_db()
    assert consent.revoked_at is None


def test_keys_of_a_registered_client_are_looked_up_while_somebody_asks_for_it(internet: FakeInternet, db: None) -> None:
    registered(client_id="keyed", token_endpoint_auth_method="private_key_jwt", jwks_uri="https://keys.example/jwks")
    internet["https://keys.example"] = lambda call: Answer(200, KEYS)
    now = timezone.now()
    for seconds, fetched in ((0, 1), (60, 1), (3601, 2)):
        assert resolve_client("keyed", now=now + timedelta(seconds=seconds)).jwks == KEYS
        assert len(internet.calls) == fetched


@pytest.mark.parametrize("body", [{"keys": []}, {"keys": [KEYS["keys"][0] | {"d": "c2VjcmV0"}]}, "<html>", []])
def test_keys_that_are_none_let_nobody_in(vendor: Vendor, internet: FakeInternet, db: None, body: object) -> None:
    vendor.says(KEYED)
    internet["https://keys.example"] = lambda call: Answer(200, body)
    with pytest.raises(UnknownClientError):
        resolve_client(URL, now=timezone.now())
    assert not McpClient.objects.exists()


@requirement("AS04")
def test_an_old_document_is_not_used_when_the_new_one_cannot_be_read(vendor: Vendor, db: None) -> None:
    now = timezone.now()
    resolve_client(URL, now=now)
    vendor.says(status=500)
    with pytest.raises(UnknownClientError):
        resolve_client(URL, now=now + timedelta(days=2))


@requirement("AS04")
@override_settings(AUTHSERVER={"document_hosts": ("trusted.example",)})
def test_only_documents_of_hosts_that_are_listed_are_taken(internet: FakeInternet, db: None) -> None:
    internet["https://trusted.example"] = lambda call: Answer(
        200, DOCUMENT | {"client_id": "https://trusted.example/c.json"}
    )
    assert resolve_client("https://trusted.example/c.json", now=timezone.now()).name == "Vendor"
    for url in (URL, "https://evil-trusted.example/c.json", "https://sub.trusted.example/c.json"):
        with pytest.raises(UnknownClientError):
            resolve_client(url, now=timezone.now())
    assert len(internet.calls) == 1


@requirement("AS04")
@override_settings(AUTHSERVER={"documents_of_a_host": 3})
def test_one_host_is_asked_so_often_and_no_more(vendor: Vendor, internet: FakeInternet, db: None) -> None:
    vendor.says(status=404)
    errors = []
    for number in range(5):
        with pytest.raises((UnknownClientError, TooManyRequestsError)) as raised:
            resolve_client(f"https://vendor.example/{number}.json", now=timezone.now())
        errors.append(type(raised.value))
    assert errors == [UnknownClientError] * 3 + [TooManyRequestsError] * 2
    assert len(internet.calls) == 3


def test_a_blocked_program_is_not_asked_for_again(vendor: Vendor, internet: FakeInternet, db: None) -> None:
    now = timezone.now()
    resolve_client(URL, now=now)
    McpClient.objects.update(blocked_at=now)
    with pytest.raises(UnknownClientError):
        resolve_client(URL, now=now + timedelta(days=2))
    assert len(internet.calls) == 1
