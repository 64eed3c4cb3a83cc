"""Programs of other people sign somebody in at our authorization server, in a real browser, and call a tool.

Each in the three ways to be known: it registers itself, an administrator has entered it, it has a metadata document.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.async_api import Browser

from tests.product import ROOT, Product, free_port, running_product
from tests.requirements import requirement

from .gateway_programs import ARGUMENTS, PROGRAMS, TOOL, Used
from .metadata_document import Authority, published_document
from .visiting import Visit, chromium

pytestmark = pytest.mark.browser
_BY_HAND = "client_by_hand"
_KNOWN_BY = ("registration", "hand", "document")
_DESCRIBED = {
    "client_name": "A program",
    # Where each of them listens; any port will do.
    "redirect_uris": [
        f"http://{host}{path}" for host in ("127.0.0.1", "localhost") for path in ("/callback", "/oauth/callback")
    ],
    "grant_types": ["authorization_code", "refresh_token"],
    "token_endpoint_auth_method": "none",
}
_ENTER = """
from authserver.models import McpClient, ProtectedResource
ProtectedResource.objects.create(name="Team notes", resource="{url}", scopes={{"notes:read": "Read your notes"}})
described = {described}
copied = {{name: described[name] for name in ("redirect_uris", "grant_types")}}
McpClient.objects.create(client_id="{client_id}", name="By hand", **copied)
"""


@dataclass(frozen=True)
class Stage:
    """The site, the address of a server that takes its tokens, and that of the programs' document."""

    product: Product
    url: str
    document: str

    def client_of(self, known_by: str) -> str:
        """What a program is told to be; empty: it has to register."""
        return {"registration": "", "hand": _BY_HAND, "document": self.document}[known_by]


@dataclass
class Signed:
    """What one program did: the client that it named, its use of the server, and what went wrong."""

    client_id: str = ""
    used: Used | None = None
    error: str = ""


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Signed]]:
    """All programs, one way after the other; those of one way at once."""
    folder = tmp_path_factory.mktemp("clients")
    authority, port = Authority(folder), free_port()
    with (
        running_product(folder, SSL_CERT_FILE=str(authority.file)) as product,
        published_document(authority, _DESCRIBED) as (document, _),
        subprocess.Popen(
            [sys.executable, "-m", "tests.browser.protected_server", str(port), product.url], cwd=ROOT
        ) as server,
    ):
        stage = Stage(product, f"http://localhost:{port}/mcp", document)
        enter = _ENTER.format(url=stage.url, described=_DESCRIBED, client_id=_BY_HAND)
        product.run(enter)
        yield asyncio.run(_signed(stage, folder))
        server.terminate()


async def _signed(stage: Stage, folder: Path) -> dict[tuple[str, str], Signed]:
    found: dict[tuple[str, str], Signed] = {}
    async with chromium() as browser:
        for known_by in _KNOWN_BY:
            client = stage.client_of(known_by)
            done = await asyncio.gather(
                *(_run(name, client, browser, stage, folder / known_by / name) for name in PROGRAMS)
            )
            found |= {(known_by, name): one for name, one in zip(PROGRAMS, done, strict=True)}
    return found


async def _run(name: str, client: str, browser: Browser, stage: Stage, folder: Path) -> Signed:
    folder.mkdir(parents=True)
    signed = Signed()
    try:
        async with PROGRAMS[name](stage.url, _visit(browser, stage, signed), folder, client) as use:
            signed.used = await use()
    except Exception:
        signed.error = traceback.format_exc()
    return signed


def _visit(browser: Browser, stage: Stage, signed: Signed) -> Visit:
    """Sign in, read the question, press Allow; what the program is told has to say who we are."""

    async def visit(address: str) -> dict[str, str]:
        asked = dict(parse_qsl(urlsplit(address).query))
        signed.client_id = asked["client_id"]
        context = await browser.new_context()
        context.set_default_timeout(60_000)
        page = await context.new_page()
        await page.goto(address)
        await page.fill("input[name=login]", "alice")
        await page.fill("input[name=password]", stage.product.password)
        await page.press("input[name=password]", "Enter")
        await page.get_by_role("button", name="Allow").wait_for()
        question = await page.inner_text("main")
        for words in ("Team notes", "Not verified", urlsplit(asked["redirect_uri"]).netloc):
            assert words in question, words
        await page.get_by_role("button", name="Allow").click()
        await page.wait_for_url("http://*/**callback?**")
        told = dict(parse_qsl(urlsplit(page.url).query))
        await context.close()
        assert told["iss"] == stage.product.url
        return told

    return visit


@requirement("A-01", "R-01", "R-04", "R-08", "R-09", "AS01", "AS04")
@pytest.mark.parametrize("known_by", _KNOWN_BY)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_signs_somebody_in_and_calls_a_tool(
    signed: dict[tuple[str, str], Signed], name: str, known_by: str
) -> None:
    one = signed[known_by, name]
    assert not one.error, one.error
    assert one.used is not None
    assert one.used.tools == {TOOL}
    assert "user:" in one.used.answer
    assert f"by {one.client_id}" in one.used.answer
    assert ARGUMENTS["title"] in one.used.answer
    begins = {"registration": "client_", "hand": _BY_HAND, "document": "https://localhost:"}[known_by]
    assert one.client_id.startswith(begins)
    assert known_by != "registration" or one.client_id != _BY_HAND
