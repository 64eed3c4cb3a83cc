"""`resultType` of a server's results: where it is absent it is `complete`, and one that nobody knows is invalid.

The SDK has it the other way round: it refuses results of 2026-07-28 without one, and takes any text for one.

Spec: MCP 2026-07-28, basic, ResultType. G-25.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

KNOWN: Final = frozenset({"complete", "input_required"})


@asynccontextmanager
async def with_result_types(transport: AbstractAsyncContextManager[Any]) -> AsyncIterator[tuple[TypedResults, Any]]:
    """Open a transport of the SDK; what is read from it has its types set right."""
    async with transport as (read, write):
        yield TypedResults(read), write


class TypedResults:
    """A stream of messages, as `mcp.client._transport.ReadStream` has it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def receive(self) -> Any:
        """Return the next message."""
        return _typed(await self._stream.receive())

    async def aclose(self) -> None:
        """Read no more."""
        await self._stream.aclose()

    def __aiter__(self) -> TypedResults:
        return self

    async def __anext__(self) -> Any:
        return _typed(await self._stream.__anext__())

    async def __aenter__(self) -> TypedResults:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        ended: bool | None = await self._stream.__aexit__(kind, error, trace)
        return ended


def _typed(item: Any) -> Any:
    """Return it; revisions before 2026-07-28 have no such member, and the SDK passes over it there."""
    result = getattr(getattr(item, "message", None), "result", None)
    if isinstance(result, dict) and result.setdefault("resultType", "complete") not in KNOWN:
        result["resultType"] = None  # which the SDK refuses
    return item
