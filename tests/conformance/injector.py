"""Stands between a program that knows no authorization and a server that wants it: adds a token to each request.

Everything else goes through byte by byte in both directions as it comes, Host and Origin too, and a side that closes
closes the other.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_PIECE = 65536


@asynccontextmanager
async def injecting(token: str, *, port: int, to_port: int) -> AsyncIterator[str]:
    """Listen on `port` of loopback and pass on to `to_port`; the value is the origin to call."""

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        beyond_reader, beyond_writer = await asyncio.open_connection("127.0.0.1", to_port)
        ways = [
            asyncio.create_task(_requests(reader, beyond_writer, line=f"Authorization: Bearer {token}\r\n".encode())),
            asyncio.create_task(_answers(beyond_reader, writer)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, beyond_writer):
            end.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield f"http://localhost:{port}"


async def _requests(reader: StreamReader, writer: StreamWriter, *, line: bytes) -> None:
    """Pass on requests, of which no body comes in chunks, until there are no more."""
    with suppress(asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            first, _, rest = head.partition(b"\r\n")
            writer.write(first + b"\r\n" + line + rest)
            writer.write(await reader.readexactly(_length(head)))
            await writer.drain()


async def _answers(reader: StreamReader, writer: StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()


def _length(head: bytes) -> int:
    """RFC 9112 §6.2."""
    fields = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((int(value) for name, _, value in fields if name == b"content-length"), 0)
