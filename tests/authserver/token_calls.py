"""Ask the endpoints as a program does."""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import quote_plus, urlencode

from django.test import Client

from tests.authserver.grants import REDIRECT_URI, VERIFIER

FORM = "application/x-www-form-urlencoded"


class Got:
    """An answer: status, members, headers."""

    def __init__(self, response: Any) -> None:
        self.status, self.headers, self.body = response.status_code, response.headers, response.content
        self.members: dict[str, Any] = response.json() if response.content else {}

    @property
    def error(self) -> str:
        return str(self.members.get("error", ""))

    def __repr__(self) -> str:
        return f"{self.status} {self.members}"


def ask(path: str, form: dict[str, str] | bytes, *, basic: tuple[str, str] | None = None, **headers: str) -> Got:
    if basic is not None:
        headers["Authorization"] = basic_header(*basic)
    body = form if isinstance(form, bytes) else urlencode(form).encode()
    sent = {"Content-Type": FORM, **headers}
    content_type = sent.pop("Content-Type")
    return Got(Client().post(path, body, content_type=content_type, headers=sent))


def basic_header(client_id: str, secret: str) -> str:
    return "Basic " + b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()).decode()


def ask_token(form: dict[str, str], **more: Any) -> Got:
    return ask("/oauth/token", form, **more)


def code_form(code: str, **changes: str) -> dict[str, str]:
    form = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT_URI, "code_verifier": VERIFIER,
        "client_id": "program",
    }  # fmt: skip
    return {name: value for name, value in {**form, **changes}.items() if value}


def refresh_form(token: str, **changes: str) -> dict[str, str]:
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "program"}
    return {name: value for name, value in {**form, **changes}.items() if value}
