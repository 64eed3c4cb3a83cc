"""Programs of other people, a server behind the gateway, a real browser: let in once, and still good the next day."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mcp import MCPError
from playwright.async_api import Browser

from tests.end_to_end.test_transports import NOTES_TOOLS
from tests.end_to_end.upstream import TOKEN_SECONDS, Upstream, running_upstream
from tests.product import Product, running_product
from tests.requirements import requirement

from .brief_tokens import ACCESS_TOKEN_SECONDS
from .gateway_programs import ARGUMENTS, PROGRAMS, Used, python_sdk
from .visiting import chromium, follow, visit_of

pytestmark = pytest.mark.browser
_ENDED_SECONDS = max(ACCESS_TOKEN_SECONDS, TOKEN_SECONDS) + 11  # tokens are taken for 10 s after their end
_FILL = """
from django.contrib.auth.models import User
from connections.models import McpServer
McpServer.objects.create(slug="notes", name="Notes", url="{url}", auth_type="oauth", gateway_enabled=True)
for name in [*{names}, "follower"]:
    User.objects.create_user(name, password="{password}")
"""


@dataclass
class Visited:
    """What came of one program: its uses on the first day and on the next, how often it sent the person to a browser,
    and what went wrong.
    """

    uses: list[Used] = field(default_factory=list)
    visits: int = 0
    error: str = ""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Product, Upstream]]:
    folder = tmp_path_factory.mktemp("stage")
    with (
        running_product(folder, DJANGO_SETTINGS_MODULE="tests.browser.brief_tokens") as product,
        running_upstream(folder, redirect_uri=f"{product.url}/api/v1/oauth/callback") as upstream,
    ):
        fill = _FILL.format(url=upstream.notes_url, names=list(PROGRAMS), password=product.password)
        product.run(fill)
        yield product, upstream


@pytest.fixture(scope="module")
def visited(stage: tuple[Product, Upstream], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Visited]:
    """All programs at once: the wait until the tokens have ended is the same for all of them."""
    return asyncio.run(_visited(*stage, tmp_path_factory.mktemp("programs")))


async def _visited(product: Product, upstream: Upstream, folder: Path) -> dict[str, Visited]:
    async def run(name: str, browser: Browser) -> Visited:
        visit, visited = visit_of(name, browser, product=product, upstream=upstream), Visited()
        (folder / name).mkdir()

        async def counted(address: str) -> dict[str, str]:
            visited.visits += 1
            return await visit(address)

        try:
            async with PROGRAMS[name](f"{product.url}/mcp/notes", counted, folder / name) as use:
                visited.uses.append(await use())
                await asyncio.sleep(_ENDED_SECONDS)  # what is waited for is the clock itself
                visited.uses.append(await use())
        except Exception:
            visited.error = traceback.format_exc()
        return visited

    async with chromium() as browser:
        found = await asyncio.gather(*(run(name, browser) for name in PROGRAMS))
    return dict(zip(PROGRAMS, found, strict=True))


@requirement("A-01", "R-04", "AS08", "P-11")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_knows_the_address_alone_is_let_in_and_still_is_the_next_day(
    visited: dict[str, Visited], name: str
) -> None:
    assert not visited[name].error, visited[name].error
    for used in visited[name].uses:
        assert used.tools == NOTES_TOOLS
        assert ARGUMENTS["title"] in used.answer
    assert len(visited[name].uses) == 2
    assert visited[name].visits == 1


@requirement("E-06", "G-05", "G12")
def test_who_lost_the_access_at_the_server_follows_the_link_of_the_next_call(
    stage: tuple[Product, Upstream], tmp_path: Path
) -> None:
    first, told, again = asyncio.run(_lost_and_found(*stage, tmp_path))
    assert told.startswith(
        f"Notes: The access has ended. Please reconnect. Open this link, then try again: {stage[0].url}/"
    )
    assert first.tools == again.tools == NOTES_TOOLS
    assert ARGUMENTS["title"] in again.answer


async def _lost_and_found(product: Product, upstream: Upstream, folder: Path) -> tuple[Used, str, Used]:
    """Use it, have the grant taken back there, be told the link, follow it, and use it again."""
    async with chromium() as browser:
        visit = visit_of("follower", browser, product=product, upstream=upstream)
        async with python_sdk(f"{product.url}/mcp/notes", visit, folder) as use:
            first = await use()
            await asyncio.to_thread(upstream.take_back)
            with pytest.raises((MCPError, ExceptionGroup)) as refused:
                await use()
            told = _said(refused.value)
            await follow(told.rpartition(" ")[2], "follower", browser, product=product, upstream=upstream)
            return first, told, await use()


def _said(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, MCPError), repr(error)
    return error.message
