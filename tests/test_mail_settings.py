"""EMAIL_URL: what is read, and what stops the start with a sentence that shows no value."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from mcp_oauth_site.mail_settings import mail_settings


def read(text: str) -> dict[str, object]:
    return mail_settings(text, public_host="mcp.example.org:8443")


def test_nothing_is_sent_unless_it_is_set() -> None:
    assert read("")["EMAIL_ENABLED"] is False
    assert read("")["EMAIL_BACKEND"] == "django.core.mail.backends.dummy.EmailBackend"
    assert read("")["DEFAULT_FROM_EMAIL"] == "MCP OAuth Site <mcp-oauth@mcp.example.org>"


@pytest.mark.parametrize("text", ["console:", "console://"])
def test_the_console_is_for_a_laptop(text: str) -> None:
    assert read(text)["EMAIL_ENABLED"] is True
    assert read(text)["EMAIL_BACKEND"] == "django.core.mail.backends.console.EmailBackend"


@pytest.mark.parametrize(
    ("text", "host", "port", "starttls", "tls"),
    [
        ("smtp://mail.example", "mail.example", 587, True, False),
        ("smtp://mail.example:25?starttls=off", "mail.example", 25, False, False),
        ("smtp://localhost:25", "localhost", 25, False, False),
        ("smtp://127.0.0.1:25/?starttls=on", "127.0.0.1", 25, True, False),
        ("smtps://mail.example", "mail.example", 465, False, True),
    ],
)
def test_mail_goes_by_tls_unless_it_stays_here_or_somebody_says_so(
    text: str, host: str, port: int, starttls: bool, tls: bool
) -> None:
    found = read(text)
    names = ("EMAIL_HOST", "EMAIL_PORT", "EMAIL_USE_TLS", "EMAIL_USE_SSL")
    assert [found[name] for name in names] == [host, port, starttls, tls]
    assert found["EMAIL_ENABLED"] is True
    assert found["EMAIL_TIMEOUT"] == 10


def test_user_password_and_sender_are_decoded() -> None:
    found = read("smtps://a%40b:p%2Fw%3A@mail.example/?from=MCP%20%3Cmcp%40example.org%3E")
    names = ("EMAIL_HOST_USER", "EMAIL_HOST_PASSWORD", "DEFAULT_FROM_EMAIL")
    assert [found[name] for name in names] == ["a@b", "p/w:", "MCP <mcp@example.org>"]


@pytest.mark.parametrize(
    "text",
    [
        "mail.example", "http://mail.example", "smtp://", "smtp://mail.example/path", "smtp://mail.example:port",
        "smtp://mail.example:99999", "smtp://mail.example?tls=1", "smtp://mail.example?starttls=maybe",
        "smtp://u:hunter2@mail.example?starttls=off", "smtp://mail.example?from=nobody",
        "smtp://mail.example?from=a@b.example%0d%0aBcc:c@d.example", "smtp://mail.example#x",
    ],
)  # fmt: skip
def test_what_cannot_be_read_stops_the_start_without_a_value(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^EMAIL_URL [^\n]*\.$") as refused:
        read(text)
    assert "hunter2" not in str(refused.value)
    assert "mail.example" not in str(refused.value)
