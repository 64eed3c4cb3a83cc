"""Programs and people that use a running product from outside, by plain requests."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass
from typing import Any

import requests

from tests.product import Product

from .upstream import Upstream

TIMEOUT_SECONDS = 60
EVERY_SCOPE = (
    "servers:read", "servers:write", "connections:read", "connections:write", "tokens:release", "tools:call",
)  # fmt: skip


@dataclass(frozen=True)
class Program:
    """A program with an API token."""

    url: str
    token: str

    @classmethod
    def of(cls, product: Product, user: str) -> Program:
        return cls(product.url, product.api_token(user, *EVERY_SCOPE))

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}/api/v1/{path}", headers=self._headers, timeout=TIMEOUT_SECONDS)

    def post(self, path: str, **body: Any) -> requests.Response:
        return requests.post(f"{self.url}/api/v1/{path}", json=body, headers=self._headers, timeout=TIMEOUT_SECONDS)

    def delete(self, path: str) -> requests.Response:
        return requests.delete(f"{self.url}/api/v1/{path}", headers=self._headers, timeout=TIMEOUT_SECONDS)

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """Send one GraphQL operation and return its data."""
        body = {"query": query, "variables": variables}
        answer = requests.post(f"{self.url}/graphql", json=body, headers=self._headers, timeout=TIMEOUT_SECONDS)
        assert answer.status_code == 200, answer.text
        assert "errors" not in answer.json(), answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def configure(self, url: str = "", **fields: Any) -> str:
        """Configure a server of an administrator's choice and return its slug."""
        slug = f"notes-{uuid.uuid4().hex[:8]}"
        wanted = {"name": slug, "slug": slug, "auth_type": "oauth", **({"url": url} if url else {}), **fields}
        created = self.post("servers", **wanted)
        assert created.status_code == 201, created.text
        return slug

    def connection(self, slug: str, *, status: int = 201) -> str:
        """Make a connection, or with status 200 find the one there is."""
        made = self.post("connections", server=slug)
        assert made.status_code == status, made.text
        return str(made.json()["id"])

    def connect(self, connection: str, *, upstream: Upstream) -> dict[str, Any]:
        """Authorize by hand, as a program on a remote machine does, and return how it ended."""
        started = self.post("oauth/initiate", connection_id=connection, manual=True)
        assert started.status_code == 200, started.text
        redirect_url = upstream.allow(started.json()["authorization_url"])
        finished = self.post("oauth/complete", state=started.json()["state"], redirect_url=redirect_url)
        assert finished.status_code == 200, finished.text
        outcome: dict[str, Any] = finished.json()
        return outcome

    def call(self, connection: str, tool: str, **arguments: object) -> requests.Response:
        return self.post(f"connections/{connection}/tools/{tool}/call", arguments=arguments)

    def note(self, connection: str, title: str) -> requests.Response:
        return self.call(connection, "create_secure_note", title=title, content="World")

    def wait_until_expired(self, connection: str) -> None:
        """Wait until the stored access token has really run out."""
        deadline = time.monotonic() + 20
        while not self.get(f"connections/{connection}/status").json()["is_access_token_expired"]:
            assert time.monotonic() < deadline, "the token does not run out"
            time.sleep(0.2)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class Browser:
    """A person's browser that is signed in to the product."""

    def __init__(self, product: Product, user: str) -> None:
        self._session = requests.Session()
        login = f"{product.url}/accounts/login/"
        page = self._session.get(login, timeout=TIMEOUT_SECONDS)
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert found, page.text
        form = {"csrfmiddlewaretoken": found[1], "login": user, "password": product.password}
        assert self._session.post(login, data=form, timeout=TIMEOUT_SECONDS).url != login

    def walk(self, link: str, *, upstream: Upstream) -> requests.Response:
        """Open a link of the product, allow the access upstream, come back, and return the page at the end."""
        sent = self._session.get(
            link, headers={"Sec-Fetch-Site": "none"}, allow_redirects=False, timeout=TIMEOUT_SECONDS
        )
        assert sent.status_code in (302, 303), sent.text
        assert sent.headers["Location"].startswith(upstream.issuer)
        return self._session.get(upstream.allow(sent.headers["Location"]), timeout=TIMEOUT_SECONDS)
