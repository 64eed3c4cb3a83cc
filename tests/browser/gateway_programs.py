"""Programs of other people that use a protected server, knowing nothing but its address.

Each is entered with that address and a visit, and gives a function that uses the server once: lists its tools, calls
one. The first use signs the person in; what a later one needs, the program has kept. A program may be told which client
it is: an https address is that of its metadata document, anything else a client id that somebody entered.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client

from tests.product import ROOT, free_port

from .inspector import Inspector
from .python_program import Program, listening, metadata
from .visiting import Visit

TOOL = "create_secure_note"
ARGUMENTS = {"title": "Hello", "content": "World"}
_NPM = ROOT / "tests" / "npm"
_NODE = next(_NPM.glob("node_modules/node-linux-*/bin/node"))


@dataclass(frozen=True)
class Used:
    """The names of the tools, and what the call answered as text."""

    tools: frozenset[str]
    answer: str


Use = Callable[[], Awaitable[Used]]
Start = Callable[..., AbstractAsyncContextManager[Use]]
"""Takes the address, the visit, a folder of its own, and the client."""


@asynccontextmanager
async def python_sdk(url: str, visit: Visit, folder: Path, client: str = "") -> AsyncIterator[Use]:
    port, document = free_port(), client if _is_document(client) else None
    program = Program(visit, client_id="" if document else client)
    auth = OAuthClientProvider(
        url, metadata(port), program, program.open_browser, program.callback, client_metadata_url=document
    )
    async with listening(port), httpx2.AsyncClient(auth=auth, timeout=60) as http:

        async def use() -> Used:
            async with Client(streamable_http_client(url, http_client=http)) as client:
                return await _used(client)

        yield use


@asynccontextmanager
async def mcp_remote(url: str, visit: Visit, folder: Path, client: str = "") -> AsyncIterator[Use]:
    log, words = folder / "log", ["--client-metadata-url", client]
    if not _is_document(client):
        words = ["--static-oauth-client-info", json.dumps({"client_id": client})] if client else []
    parameters = StdioServerParameters(
        command=str(_NODE),
        args=[str(_NPM / "node_modules/mcp-remote/dist/proxy.js"), url, str(free_port()), "--allow-http", *words],
        env={"MCP_REMOTE_CONFIG_DIR": str(folder), "PATH": ""},
    )
    with log.open("w") as said:
        person = asyncio.create_task(_visit_what_is_printed(log, visit))
        async with Client(stdio_client(parameters, errlog=said)) as connected:
            await person

            async def use() -> Used:
                return await _used(connected)

            yield use


async def _visit_what_is_printed(log: Path, visit: Visit) -> None:
    while not (found := re.search(r"http\S+/oauth/authorize\?\S+(?=\n)", log.read_text())):
        await asyncio.sleep(0.1)
    await visit(found[0])


@asynccontextmanager
async def inspector(url: str, visit: Visit, folder: Path, client: str = "") -> AsyncIterator[Use]:
    flag = "--client-metadata-url" if _is_document(client) else "--client-id"
    cli = Inspector(url, folder, (flag, client) if client else ())
    loop, first = asyncio.get_running_loop(), True
    call = ["--method", "tools/call", "--tool-name", TOOL, "--tool-arg", *(f"{k}={v}" for k, v in ARGUMENTS.items())]

    def open_browser(address: str) -> None:
        asyncio.run_coroutine_threadsafe(_visited(visit, address), loop).result()

    async def use() -> Used:
        nonlocal first
        words = ("--method", "tools/list")
        listed = await asyncio.to_thread(cli.sign_in, open_browser, *words) if first else await _later(cli, words)
        first = False
        answer = await _later(cli, call)
        return Used(frozenset(tool["name"] for tool in listed["tools"]), json.dumps(answer))

    yield use


async def _later(cli: Inspector, words: list[str] | tuple[str, ...]) -> dict[str, Any]:
    return await asyncio.to_thread(cli.call, *words)


async def _visited(visit: Visit, address: str) -> None:
    await visit(address)


@asynccontextmanager
async def typescript_sdk(url: str, visit: Visit, folder: Path, client: str = "") -> AsyncIterator[Use]:
    words = [url, str(free_port()), TOOL, json.dumps(ARGUMENTS), client]
    command = [str(_NODE), str(_NPM / "typescript_client.mjs"), *words]
    async with _talking(command, visit, folder) as use:
        yield use


@asynccontextmanager
async def fastmcp(url: str, visit: Visit, folder: Path, client: str = "") -> AsyncIterator[Use]:
    command = [sys.executable, "-m", "tests.browser.fastmcp_program", url, TOOL, json.dumps(ARGUMENTS), client]
    async with _talking(command, visit, folder) as use:
        yield use


@asynccontextmanager
async def _talking(command: list[str], visit: Visit, folder: Path) -> AsyncIterator[Use]:
    """Run a program that prints what it wants and what it got, and uses the server again for each line."""
    pipe, log, first = subprocess.PIPE, folder / "log", True
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=errors)
    assert process.stdin is not None
    assert process.stdout is not None
    said, told = process.stdout, process.stdin

    async def use() -> Used:
        nonlocal first
        if not first:
            told.write(b"again\n")
        first, tools = False, frozenset[str]()
        async for line in said:
            kind, _, rest = line.decode().strip().partition(" ")
            if kind == "open":
                await visit(rest)
            elif kind == "tools":
                tools = frozenset(rest.split())
            elif kind == "answer":
                return Used(tools, rest)
        raise AssertionError(f"it ended: {log.read_text()[-3000:]}")

    yield use
    told.close()
    await process.wait()


def _is_document(client: str) -> bool:
    return client.startswith("https://")


async def _used(client: Client) -> Used:
    listed = await client.list_tools()
    answer = await client.call_tool(TOOL, ARGUMENTS)
    return Used(frozenset(tool.name for tool in listed.tools), str(answer.content))


PROGRAMS: dict[str, Start] = {
    "python-sdk": python_sdk,
    "typescript-sdk": typescript_sdk,
    "fastmcp": fastmcp,
    "mcp-remote": mcp_remote,
    "inspector": inspector,
}
