"""Asks who calls, as the gateway does on each call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from gateway.callers import people, trusts
from gateway.callers.caller import Caller
from gateway.callers.external_tokens import EXTERNAL_TOKENS
from gateway.callers.identify import identify
from gateway.callers.issuer_keys import KEYS
from gateway.callers.issuer_requests import REQUESTS
from gateway.forwarding.headers import Headers
from gateway.targets.find import TARGETS, find_server

Result = TypeVar("Result")


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    """Each test begins like a fresh process."""
    for known in (EXTERNAL_TOKENS, KEYS, REQUESTS, people, trusts):
        known.forget()


def caller_of(*authorization: str, slug: str = "notes") -> Caller:
    """Return who calls with these values of the Authorization header."""
    return in_loop(lambda: identified(*authorization, slug=slug))


def bearer(token: str, *, slug: str = "notes") -> Caller:
    """Return who calls with this token."""
    return caller_of(f"Bearer {token}", slug=slug)


async def identified(*authorization: str, slug: str = "notes") -> Caller:
    """The same in an event loop."""
    server = await find_server(slug)
    assert server is not None
    headers = Headers([(b"authorization", value.encode()) for value in authorization])
    return await identify(headers, server=server)


def in_loop(call: Callable[[], Awaitable[Result]]) -> Result:
    """Run it as the gateway would."""

    async def run() -> Result:
        await TARGETS.open()
        try:
            return await call()
        finally:
            await TARGETS.close()

    return asyncio.run(run())


def is_still_good(caller: Caller, *, at: float | None = None) -> bool:
    """Ask what an open stream asks; an answer that may outlive its token, as of an earlier second."""
    return in_loop(lambda: caller.is_still_good(time.time() if at is None else at))


def said(error: Any) -> tuple[int, str]:
    """Return status and code of a refusal."""
    return error.value.status, error.value.error


def until(holds: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait for something that happens in another thread."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
