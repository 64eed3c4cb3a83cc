"""Programs of other people, a server behind the gateway, a real browser: let in once, and still good the next day."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.end_to_end.test_transports import NOTES_TOOLS
from tests.end_to_end.upstream import TOKEN_SECONDS, Upstream, running_upstream
from tests.product import Product, running_product
from tests.requirements import requirement

from .brief_tokens import ACCESS_TOKEN_SECONDS
from .gateway_programs import ARGUMENTS, PROGRAMS, Used
from .visiting import chromium, visit_of

pytestmark = pytest.mark.browser
_ENDED_SECONDS = max(ACCESS_TOKEN_SECONDS, TOKEN_SECONDS) + 11  # tokens are taken for 10 s after their end
_FILL = """
from django.contrib.auth.models import User
from connections.models import McpServer
McpServer.objects.create(slug="notes", name="Notes", url="{url}", auth_type="oauth", gateway_enabled=True)
for name in {names}:
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
        product.manage("shell", "-v0", "-c", fill)
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
