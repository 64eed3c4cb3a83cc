"""A person with a browser, scripted: sign in, read the question, allow."""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import requests

TIMEOUT_SECONDS = 30
_CALLBACK = "http://127.0.0.1/callback"
_VERIFIER = "v" * 43
_TYPED = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}


class ScriptedPerson:
    """Keeps the cookies of one browser at one site. `browser` is signed in, or becomes so by `sign_in`."""

    def __init__(self, site: str, browser: requests.Session) -> None:
        self._site, self._browser = site, browser

    @classmethod
    def sign_in(cls, site: str, *, name: str, password: str) -> ScriptedPerson:
        """Sign in with a password, which a site lets nobody do too often."""
        browser = requests.Session()
        page = browser.get(f"{site}/accounts/login/", timeout=TIMEOUT_SECONDS)
        form = {"login": name, "username": name, "password": password, "csrfmiddlewaretoken": _csrf(page.text)}
        browser.post(f"{site}/accounts/login/", data=form, timeout=TIMEOUT_SECONDS).raise_for_status()
        return cls(site, browser)

    @property
    def session(self) -> dict[str, str]:
        """The cookies by which another process goes on as the same person."""
        return {cookie.name: str(cookie.value) for cookie in self._browser.cookies if "csrf" not in cookie.name}

    def allow(self, authorization_url: str) -> str:
        """Open a client's request, press Allow; return where the browser is sent."""
        page = self._browser.get(authorization_url, headers=_TYPED, timeout=TIMEOUT_SECONDS)
        while page.status_code == 429:  # nobody may be sent there more than a few times a minute
            time.sleep(int(page.headers["Retry-After"]))
            page = self._browser.get(authorization_url, headers=_TYPED, timeout=TIMEOUT_SECONDS)
        page.raise_for_status()
        form = {"decision": "allow", "csrfmiddlewaretoken": _csrf(page.text)}
        answer = self._browser.post(page.url, data=form, allow_redirects=False, timeout=TIMEOUT_SECONDS)
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    def register(self) -> str:
        """Register a program and return its client id."""
        about = {"client_name": "Program", "redirect_uris": [_CALLBACK], "token_endpoint_auth_method": "none"}
        answer = requests.post(f"{self._site}/oauth/register", json=about, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        return str(answer.json()["client_id"])

    def token(self, resource: str, *, client_id: str) -> str:
        """Let that program use a resource, and return the access token that it gets."""
        named = {"client_id": client_id, "redirect_uri": _CALLBACK, "resource": resource}
        challenge = urlsafe_b64encode(sha256(_VERIFIER.encode()).digest()).rstrip(b"=").decode()
        asked = {**named, "response_type": "code", "code_challenge": challenge, "code_challenge_method": "S256"}
        told = self._at_callback(self.allow(f"{self._site}/oauth/authorize?{urlencode(asked)}"))
        (code,) = parse_qs(urlsplit(told).query)["code"]
        form = {**named, "grant_type": "authorization_code", "code": code, "code_verifier": _VERIFIER}
        answer = requests.post(f"{self._site}/oauth/token", data=form, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def connect(self, link: str) -> None:
        """Follow a link of ours to a service and back, where the service asks nothing."""
        self._browser.get(link, headers=_TYPED, timeout=TIMEOUT_SECONDS)

    def _at_callback(self, told: str) -> str:
        """Where the program is told, over the sign-in to the server itself if there is one on the way."""
        if told.startswith(_CALLBACK):
            return told
        page = self._browser.get(urljoin(self._site, told), timeout=TIMEOUT_SECONDS)
        form = {"decision": "continue", "csrfmiddlewaretoken": _csrf(page.text)}
        answer = self._browser.post(page.url, data=form, allow_redirects=False, timeout=TIMEOUT_SECONDS)
        while "Location" in answer.headers:
            told = urljoin(answer.url, answer.headers["Location"])
            if told.startswith(_CALLBACK):
                return told
            answer = self._browser.get(told, allow_redirects=False, timeout=TIMEOUT_SECONDS)
        raise AssertionError(f"the visit ends at {answer.url}: {re.sub('<[^>]+>', '', answer.text)[:1000]}")


def _csrf(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found, page[:500]
    return found[1]
