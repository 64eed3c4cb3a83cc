"""A person with a browser, scripted: sign in, read the question, allow."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import parse_qs, urlencode, urlsplit

import requests

TIMEOUT_SECONDS = 30
_CALLBACK = "http://127.0.0.1/callback"
_VERIFIER = "v" * 43


class ScriptedPerson:
    """Keeps the cookies of one browser at one site."""

    def __init__(self, site: str, *, name: str, password: str) -> None:
        self._site = site
        self._browser = requests.Session()
        page = self._browser.get(f"{site}/accounts/login/", timeout=TIMEOUT_SECONDS)
        form = {"login": name, "username": name, "password": password, "csrfmiddlewaretoken": _csrf(page.text)}
        self._browser.post(f"{site}/accounts/login/", data=form, timeout=TIMEOUT_SECONDS).raise_for_status()

    def allow(self, authorization_url: str) -> str:
        """Open a client's request, press Allow; return where the browser is sent."""
        typed = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}
        page = self._browser.get(authorization_url, headers=typed, timeout=TIMEOUT_SECONDS)
        page.raise_for_status()
        form = {"decision": "allow", "csrfmiddlewaretoken": _csrf(page.text)}
        answer = self._browser.post(page.url, data=form, allow_redirects=False, timeout=TIMEOUT_SECONDS)
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    def token(self, resource: str) -> str:
        """Let a fresh program use a resource, and return the access token that it gets."""
        about = {"client_name": "Program", "redirect_uris": [_CALLBACK], "token_endpoint_auth_method": "none"}
        client = requests.post(f"{self._site}/oauth/register", json=about, timeout=TIMEOUT_SECONDS).json()
        named = {"client_id": client["client_id"], "redirect_uri": _CALLBACK, "resource": resource}
        challenge = urlsafe_b64encode(sha256(_VERIFIER.encode()).digest()).rstrip(b"=").decode()
        asked = {**named, "response_type": "code", "code_challenge": challenge, "code_challenge_method": "S256"}
        told = self.allow(f"{self._site}/oauth/authorize?{urlencode(asked)}")
        (code,) = parse_qs(urlsplit(told).query)["code"]
        form = {**named, "grant_type": "authorization_code", "code": code, "code_verifier": _VERIFIER}
        answer = requests.post(f"{self._site}/oauth/token", data=form, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        return str(answer.json()["access_token"])


def _csrf(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found, page[:500]
    return found[1]
