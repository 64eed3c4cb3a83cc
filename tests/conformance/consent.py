"""A person with a browser, scripted: sign in, read the question, allow."""

from __future__ import annotations

import re

import requests

TIMEOUT_SECONDS = 30


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


def _csrf(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found, page[:500]
    return found[1]
