"""Programs of other people sign somebody in at our authorization server, in a real browser, and call a tool."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from playwright.async_api import Page, async_playwright

from tests.product import ROOT, Product, free_port, running_product
from tests.requirements import requirement

from .conftest import ARGUMENTS
from .metadata_document import Authority, published_document
from .python_program import NAME, Program, listening, metadata

pytestmark = pytest.mark.browser
NPM = ROOT / "tests" / "npm"
_RESOURCE = """
from authserver.models import McpClient, ProtectedResource
ProtectedResource.objects.create(name="Team notes", resource="{url}", scopes={{"notes:read": "Read your notes"}})
McpClient.objects.create(
    client_id="client_by_hand", name="By hand", redirect_uris=["http://127.0.0.1/callback"],
    grant_types=["authorization_code", "refresh_token"],
)
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Product]:
    with running_product(tmp_path_factory.mktemp("product"), SSL_CERT_FILE=str(authority.file)) as running:
        yield running


@pytest.fixture(scope="module")
def mcp_url(product: Product) -> Iterator[str]:
    with _protected_server(product) as url:
        product.manage("shell", "-v0", "-c", _RESOURCE.format(url=url))
        yield url


@contextmanager
def _protected_server(product: Product) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "tests.browser.protected_server", str(port), product.url]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            yield f"http://localhost:{port}/mcp"
        finally:
            process.terminate()


@asynccontextmanager
async def _chromium() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield await browser.new_page()
        await browser.close()


async def _allow(page: Page, address: str, *, product: Product, name: str, place: str = "127.0.0.1") -> dict[str, str]:
    """Sign in, read the question, press Allow; return what the program was told."""
    await page.goto(address)
    await page.fill("input[name=login]", "alice")
    await page.fill("input[name=password]", product.password)
    await page.press("input[name=password]", "Enter")
    await page.wait_for_selector("button[value=allow]")
    text = await page.inner_text("main")
    assert name in text
    assert "Team notes" in text
    assert f"{place}:" in text
    await page.click("button[value=allow]")
    await page.wait_for_url(
        f"http://{place}:*/**/callback?**" if place == "localhost" else f"http://{place}:*/callback?**"
    )
    return dict(parse_qsl(urlsplit(page.url).query))


@requirement("A-01", "R-04", "AS01")
@pytest.mark.parametrize("client_id", ["", "client_by_hand"])
async def test_the_python_sdk_signs_somebody_in_and_calls_a_tool(
    product: Product, mcp_url: str, client_id: str
) -> None:
    port = free_port()
    name = "By hand" if client_id else NAME
    async with _chromium() as page, listening(port):
        program = Program(partial(_allow, page, product=product, name=name), client_id=client_id)
        auth = OAuthClientProvider(mcp_url, metadata(port), program, program.open_browser, program.callback)
        async with (
            httpx2.AsyncClient(auth=auth, timeout=30) as http,
            Client(streamable_http_client(mcp_url, http_client=http)) as client,
        ):
            answer = await client.call_tool("who_am_i", {})
        assert program.told["iss"] == product.url
        assert program.tokens is not None
        assert program.tokens.refresh_token
        assert program.client is not None
        assert f"by {client_id or program.client.client_id}" in str(answer.content)
        await page.goto(f"{product.url}/connections/")
        assert name in await page.inner_text("main")


@requirement("A-01", "R-08", "R-09", "AS04")
async def test_the_python_sdk_is_known_by_its_metadata_document(
    product: Product, mcp_url: str, authority: Authority
) -> None:
    port = free_port()
    about = metadata(port)
    described = about.model_dump(mode="json", exclude_none=True)
    with published_document(authority, described) as (address, asked):
        async with _chromium() as page, listening(port):
            program = Program(partial(_allow, page, product=product, name=NAME))
            auth = OAuthClientProvider(
                mcp_url, about, program, program.open_browser, program.callback, client_metadata_url=address
            )
            async with (
                httpx2.AsyncClient(auth=auth, timeout=30) as http,
                Client(streamable_http_client(mcp_url, http_client=http)) as client,
            ):
                answer = await client.call_tool("who_am_i", {})
    assert asked == ["/client.json"]
    assert f"by {address}" in str(answer.content)


@requirement("A-01", "R-04")
@pytest.mark.parametrize("client_id", ["", "client_by_hand"])
async def test_the_typescript_sdk_signs_somebody_in_and_calls_a_tool(
    product: Product, mcp_url: str, client_id: str
) -> None:
    node = next(NPM.glob("node_modules/node-linux-*/bin/node"))
    words = [str(node), str(NPM / "typescript_client.mjs"), mcp_url, str(free_port()), "who_am_i", "{}", client_id]
    process = await asyncio.create_subprocess_exec(
        *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    said: list[str] = []
    async with _chromium() as page:
        async for line in process.stdout:
            said.append(line.decode().strip())
            if said[-1].startswith("open "):
                name = "By hand" if client_id else "TypeScript program"
                await _allow(page, said[-1].removeprefix("open "), product=product, name=name)
    assert await process.wait() == 0, said
    assert any(line.startswith("answer user:") for line in said), said
    assert "refresh true" in said


@requirement("A-01", "R-04")
async def test_mcp_remote_signs_somebody_in_for_a_program_that_knows_no_oauth(
    product: Product, mcp_url: str, tmp_path: Path
) -> None:
    node = next(NPM.glob("node_modules/node-linux-*/bin/node"))
    proxy = str(NPM / "node_modules" / "mcp-remote" / "dist" / "proxy.js")
    parameters = StdioServerParameters(
        command=str(node),
        args=[proxy, mcp_url, str(free_port()), "--allow-http"],
        env={"MCP_REMOTE_CONFIG_DIR": str(tmp_path), "PATH": ""},
    )
    log = tmp_path / "log"
    with log.open("w") as said:
        async with _chromium() as page:
            person = asyncio.create_task(_allow_when_asked(page, log, product=product))
            async with Client(stdio_client(parameters, errlog=said)) as client:
                answer = await client.call_tool("who_am_i", {})
            await person
    assert "user:" in str(answer.content)


async def _allow_when_asked(page: Page, log: Path, *, product: Product) -> None:
    """Open the address that a program prints."""
    pattern = re.compile(rf"{re.escape(product.url)}/oauth/authorize\?\S+(?=\n)")
    while not (found := pattern.search(log.read_text())):
        await asyncio.sleep(0.2)
    await _allow(page, found[0], product=product, name="", place="localhost")
