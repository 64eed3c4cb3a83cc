"""EMAIL_URL: what is read, and what stops the start with a sentence that shows no value."""

from __future__ import annotations

import socketserver
import threading

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from mcp_oauth_site.mail_settings import mail_settings
from oauthflow.flows.mail.letter import Item, send_letter


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


class _MailServer(socketserver.StreamRequestHandler):
    """Speaks as much SMTP as it takes to be given a letter."""

    letters: list[str] = []

    def handle(self) -> None:
        self._say("220 here")
        for line in iter(lambda: self.rfile.readline().decode(), ""):
            if line.upper().startswith("DATA"):
                self._say("354 go on")
                lines = iter(lambda: self.rfile.readline().decode(), ".\r\n")
                self.letters.append("".join(lines))
            self._say("221 bye" if line.upper().startswith("QUIT") else "250 ok")

    def _say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())


def test_a_letter_reaches_a_mail_server_as_text_and_html() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _MailServer) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        item = Item("Team\nNotes", "The connection has ended.", "https://mcp.example.org/connections/1")
        with override_settings(**read(f"smtp://127.0.0.1:{server.server_address[1]}?from=mcp@example.org")):
            person = User(username="alice", email="alice@example.com")
            assert send_letter(person, subject=f"{item.heading} needs you", lead="Hello.", items=[item])
            assert not send_letter(User(email="a\nb@example.com"), subject="x", lead="", items=[item])
        server.shutdown()
    (letter,) = _MailServer.letters
    for said in ("From: mcp@example.org", "To: alice@example.com", "Subject: MCP OAuth: Team Notes needs you",
                 "text/plain", "text/html", item.url, "List-Unsubscribe: <"):  # fmt: skip
        assert said in letter
