from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pytest_django import Settings

from .front import Front, standing


@pytest_asyncio.fixture
async def front(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, request: pytest.FixtureRequest
) -> AsyncIterator[Front]:
    settings.GATEWAY = getattr(request, "param", settings.GATEWAY)
    async with standing(monkeypatch, settings) as opened:
        yield opened
