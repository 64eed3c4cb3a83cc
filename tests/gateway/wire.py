"""The gateway behind the server that the site runs, spoken to byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from mcp_oauth_site.serve import OPTIONS

ORDINARY = (
    b"Host: testserver\r\nAuthorization: Bearer alice\r\nAccept: application/json, text/event-stream\r\n"
    b"Content-Type: application/json\r\nMcp-Protocol-Version: 2025-11-25\r\n"
)
BODY = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


class Wire:
    """One connection; `talk` sends bytes and returns all that comes back, and whether the server closed it."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def talk(self, *pieces: bytes, wait_seconds: float = 5.0) -> tuple[bytes, bool]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        received, closed = b"", False
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            async with asyncio.timeout(wait_seconds):
                while chunk := await reader.read(65536):
                    received += chunk
                    if _is_whole(received):
                        wait_seconds = 0.2
                        break
                else:
                    closed = True
            if not closed:
                async with asyncio.timeout(0.2):
                    closed = await reader.read(1) == b""
        except (TimeoutError, ConnectionError) as error:
            closed = closed or isinstance(error, ConnectionError)
        finally:
            writer.close()
        return received, closed


def _is_whole(received: bytes) -> bool:
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return body.endswith(b"0\r\n\r\n")


@asynccontextmanager
async def listening(application: Any) -> AsyncIterator[Wire]:
    """Serve with the options of the site, in this event loop."""
    server = uvicorn.Server(uvicorn.Config(application, port=0, **{**OPTIONS, "lifespan": "off", "loop": "none"}))
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield Wire(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await task
