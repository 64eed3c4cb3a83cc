"""A person's one visit on the way to a server behind the gateway: sign in, allow, and sign in where the server is."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlsplit

from playwright.async_api import Browser, Page, async_playwright

from tests.end_to_end.upstream import Upstream
from tests.product import Product

from .conftest import ARGUMENTS

Visit = Callable[[str], Awaitable[dict[str, str]]]
"""Open an address that a program gives, do what is asked, and return what the program was told at its callback."""

_PATIENCE_MILLISECONDS = 60_000


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        yield browser
        await browser.close()


def visit_of(user: str, browser: Browser, *, product: Product, upstream: Upstream) -> Visit:
    """The visit of one user in a browser that has never been here."""

    async def visit(address: str) -> dict[str, str]:
        async with _signed_in(address, user, browser, product=product) as page:
            await page.get_by_role("button", name="Allow").click()
            await page.get_by_role("button", name="Continue").click()
            await _allow_there(page, upstream)
            await page.wait_for_url("http://*/**callback?**")
            return dict(parse_qsl(urlsplit(page.url).query))

    return visit


async def follow(link: str, user: str, browser: Browser, *, product: Product, upstream: Upstream) -> None:
    """Open the link that a program shows where a person has to connect, and go on until that is done."""
    async with _signed_in(link, user, browser, product=product) as page:
        await _allow_there(page, upstream)
        await page.get_by_role("heading", name="is connected").wait_for()


@asynccontextmanager
async def _signed_in(address: str, user: str, browser: Browser, *, product: Product) -> AsyncIterator[Page]:
    context = await browser.new_context()
    context.set_default_timeout(_PATIENCE_MILLISECONDS)
    page = await context.new_page()
    await page.goto(address)
    await page.fill("input[name=login]", user)
    await page.fill("input[name=password]", product.password)
    await page.press("input[name=password]", "Enter")
    yield page
    await context.close()


async def _allow_there(page: Page, upstream: Upstream) -> None:
    await page.wait_for_url(f"{upstream.issuer}/**")
    await page.get_by_label("User name").fill("testuser")
    await page.get_by_label("Password").fill("testpass")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("button", name="Allow").click()
