"""Unclear requests through nginx, configured as docs/operators.md says: none becomes another, or two. G04."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.product import free_port
from tests.requirements import requirement

from .front import Front
from .test_framing import ADDRESSES, FRAMES, GOOD
from .upstream import streams
from .wire import BODY, Wire, listening

CONFIGURATION = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{ listen 127.0.0.1:{port}; server_name testserver; {locations} }}
}}
"""
# nginx itself takes no line of more than 8 KiB.
CLEAR = {name: frame for name, frame in GOOD.items() if name != "headers below 16 KiB"}


def documented_locations(port: int) -> str:
    """Return what the manual tells an operator to write, with another port behind."""
    blocks = re.findall(r"```nginx\n(location .*?)```", Path("docs/operators.md").read_text(), re.DOTALL)
    assert [block.split("{")[0].strip() for block in blocks] == ["location /", "location /mcp/"]
    return "".join(blocks).replace("127.0.0.1:8000", f"127.0.0.1:{port}")


@pytest_asyncio.fixture
async def nginx(front: Front, tmp_path: Path) -> AsyncIterator[Wire]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    async with listening(front.gateway) as behind:
        port, written = free_port(), tmp_path / "nginx.conf"
        locations = documented_locations(behind.port)
        written.write_text(CONFIGURATION.format(folder=tmp_path, port=port, locations=locations))
        process = await asyncio.create_subprocess_exec(program, "-c", str(written), "-e", str(tmp_path / "nginx.log"))
        try:
            await _answers(port)
            yield Wire(port)
        finally:
            process.terminate()
            await process.wait()


async def _answers(port: int) -> None:
    for _ in range(200):
        try:
            (await asyncio.open_connection("127.0.0.1", port))[1].close()
        except OSError:
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("nginx does not answer")


@requirement("G04")
async def test_an_unclear_request_through_nginx_is_refused_or_goes_on_as_one_clear_request(
    front: Front, nginx: Wire
) -> None:
    wrong = {}
    for name, frame in (FRAMES | ADDRESSES).items():
        front.upstream.seen.clear()
        received, _ = await nginx.talk(frame)
        went_on = [(seen.method, seen.path, seen.body) for seen in front.upstream.seen]
        is_taken = received.startswith(b"HTTP/1.1 2") and name not in ADDRESSES
        if went_on != [("POST", "/mcp", BODY)] * is_taken or received.count(b"HTTP/1.1 ") > 1:
            wrong[name] = received[:100], went_on
    assert wrong == {}


@requirement("G04")
async def test_a_clear_request_goes_through_nginx_and_a_stream_comes_back_piece_by_piece(
    front: Front, nginx: Wire
) -> None:
    found = {name: (await nginx.talk(frame))[0][:13] for name, frame in CLEAR.items()}
    assert found == dict.fromkeys(CLEAR, b"HTTP/1.1 200 ")
    assert len(front.upstream.seen) == len(CLEAR)

    first_was_read = asyncio.Event()
    front.upstream.behave = streams(b"data: 1\n\n", first_was_read.wait, b"data: 2\n\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", nginx.port)
    writer.write(CLEAR["with a length"])
    async with asyncio.timeout(5):
        await reader.readuntil(b"data: 1\n\n")
        first_was_read.set()
        await reader.readuntil(b"data: 2\n\n")
    writer.close()
