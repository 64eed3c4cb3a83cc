"""A person with a browser, as plain requests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2


@dataclass
class Person:
    http: httpx2.Client
    issuer: str

    def open(self, url: str) -> httpx2.Response:
        """Follow redirects as long as they stay at the authorization server."""
        return self._followed(self.http.get(url))

    def sign_in(self, page: httpx2.Response, *, username: str = "testuser", password: str = "testpass"):
        form = {"request": hidden(page, "request"), "username": username, "password": password}
        return self._followed(self.http.post(f"{self.issuer}/login", data=form))

    def decide(self, page: httpx2.Response, *, decision: str = "allow") -> dict[str, str]:
        """Answer the consent page and return what the client's redirect URI gets."""
        form = {"request": hidden(page, "request"), "decision": decision}
        return callback_parameters(self.http.post(f"{self.issuer}/consent", data=form))

    def allow(self, authorization_url: str) -> dict[str, str]:
        """Sign in where it is asked for, and allow."""
        page = self.open(authorization_url)
        if 'name="password"' in page.text:
            page = self.sign_in(page)
        return self.decide(page)

    def _followed(self, response: httpx2.Response) -> httpx2.Response:
        while response.is_redirect and response.headers["Location"].startswith(self.issuer):
            response = self.http.get(urljoin(str(response.url), response.headers["Location"]))
        return response


def hidden(page: httpx2.Response, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found, page.text
    return found[1]


def callback_parameters(response: httpx2.Response) -> dict[str, str]:
    assert response.status_code == 303
    query = parse_qs(urlsplit(response.headers["Location"]).query, strict_parsing=True)
    return {name: values[0] for name, values in query.items() if len(values) == 1}
