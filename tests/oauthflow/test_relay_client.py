"""The gateway's own client against servers that answer byte by byte: what it takes, and what it never mixes up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from pytest_django import Settings

from oauthflow.egress import relay_client
from oauthflow.egress.origin import Origin
from oauthflow.egress.relay_client import RelayClient, RelayedAnswer
from oauthflow.egress.relay_wire import RelayWire
from oauthflow.protocol.errors import BlockedUrlError, FlowError, MalformedResponseError, TransportError
from oauthflow.protocol.urls import parse_http_url
from tests.requirements import requirement

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
FIVE = b"Content-Length: 5\r\n"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Server:
    """Answers the first request of each connection with the next of `answers`; `connections` counts them."""

    def __init__(self) -> None:
        self.answers: list[bytes | Play] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0
                )
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                if isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                    if b"Connection: close" in answer:
                        break
                else:
                    await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(*answers: bytes | Play) -> AsyncIterator[tuple[Server, RelayClient]]:
    played = Server()
    played.answers = list(answers)
    server = await asyncio.start_server(played.serve, "127.0.0.1", 0)
    played.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp?a=b"
    client = RelayClient()
    try:
        yield played, client
    finally:
        await client.close()
        server.close()


@pytest.fixture(autouse=True)
def _allowed(settings: Settings) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]


async def _post(played: Server, client: RelayClient, body: bytes = b"{}") -> RelayedAnswer:
    return await client.send("POST", played.url, headers=[(b"Accept", b"a/b")], body=body)


async def _whole(answer: RelayedAnswer) -> bytes:
    parts = []
    while piece := await answer.read_piece():
        parts.append(piece)
    answer.close()
    return b"".join(parts)


CLOSING = b"Connection: close\r\n"
CHUNKS = b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrail: er\r\n\r\n"
WHOLE = {
    "with a length": (JSON + FIVE + b"\r\nhello", b"hello", True),
    "in chunks": (JSON + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, b"hello", True),
    "until the end": (JSON + CLOSING + b"\r\nhello", b"hello", False),
    "closing": (JSON + FIVE + CLOSING + b"\r\nhello", b"hello", False),
    "without a body": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "empty": (JSON + b"Content-Length: 0\r\n\r\n", b"", True),
    "after a preliminary answer": (b"HTTP/1.1 100 Continue\r\n\r\n" + JSON + FIVE + b"\r\nhello", b"hello", True),
    "of HTTP/1.0": (JSON.replace(b"1.1", b"1.0") + FIVE + CLOSING + b"\r\nhello", b"hello", False),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "body", "is_kept"), WHOLE.values(), ids=WHOLE.keys())
async def test_an_answer_is_read_to_its_end_and_the_connection_kept_where_it_may_be(
    sent: bytes, body: bytes, is_kept: bool
) -> None:
    async with serving(sent, JSON + b"Content-Length: 2\r\n\r\nok") as (played, client):
        assert await _whole(await _post(played, client)) == body
        assert await _whole(await _post(played, client)) == b"ok"
        assert played.connections == (1 if is_kept else 2)
        host = played.url.split("/")[2].encode()
        assert played.requests[0] == (
            b"POST /mcp?a=b HTTP/1.1\r\nHost: " + host + b"\r\nUser-Agent: mcp-oauth-site\r\n"
            b"Accept-Encoding: identity\r\nAccept: a/b\r\nContent-Length: 2\r\n\r\n{}"
        )


BROKEN: dict[str, tuple[bytes, type[FlowError]]] = {
    "nothing": (b"Connection: close", MalformedResponseError),
    "no HTTP": (b"SSH-2.0-x\r\n\r\n", MalformedResponseError),
    "two lengths": (JSON + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", MalformedResponseError),
    "length and chunks": (JSON + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", MalformedResponseError),
    "another protocol": (b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", MalformedResponseError),
    "a folded header": (JSON + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", MalformedResponseError),
    "a NUL": (JSON + b"X: a\x00b\r\nContent-Length: 2\r\n\r\nok", MalformedResponseError),
    "a long header": (JSON + b"X: " + b"a" * 40_000 + b"\r\nContent-Length: 2\r\n\r\nok", MalformedResponseError),
    "a header without an end": (JSON + b"X: " + b"a" * 400_000, MalformedResponseError),
}


@pytest.mark.parametrize(("sent", "error"), BROKEN.values(), ids=BROKEN.keys())
async def test_what_is_not_clear_is_refused_and_the_connection_closed(sent: bytes, error: type[FlowError]) -> None:
    async with serving(sent, JSON + b"Content-Length: 2\r\n\r\nok") as (played, client):
        with pytest.raises(error):
            await _post(played, client)
        assert await _whole(await _post(played, client)) == b"ok"
        assert played.connections == 2


async def _abort(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize("sent", [_abort, b"HTTP/1.1 200"])
async def test_a_server_that_closes_before_it_answers_gave_no_answer(sent: bytes | Play) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent if isinstance(sent, bytes) else b"")
        writer.close()

    async with serving(close) as (played, client):
        with pytest.raises(TransportError):
            await _post(played, client)


@pytest.mark.parametrize("rest", [b"Content-Length: 9\r\n\r\nhel", b"Transfer-Encoding: chunked\r\n\r\n9\r\nhel"])
async def test_an_answer_that_breaks_off_says_so_after_what_came(rest: bytes) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(JSON + rest)
        writer.close()

    async with serving(close) as (played, client):
        answer = await _post(played, client)
        assert await answer.read_piece() == b"hel"
        with pytest.raises(TransportError):
            await answer.read_piece()


async def test_a_second_answer_to_one_request_is_no_answer_to_the_next() -> None:
    own, foreign = JSON + b"Content-Length: 3\r\n\r\nown", JSON + b"Content-Length: 4\r\n\r\nevil"
    for late in (False, True):

        async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late: bool = late) -> None:
            writer.write(own if late else own + foreign)
            await writer.drain()
            if late:
                await asyncio.sleep(0.05)
                writer.write(foreign)

        async with serving(twice, own, own) as (played, client):
            assert await _whole(await _post(played, client)) == b"own"
            await asyncio.sleep(0.1 if late else 0)  # until the late one is there
            assert await _whole(await _post(played, client)) == b"own"
            assert played.connections == 2


async def test_whoever_leaves_cuts_the_connection() -> None:
    left = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()

    async with serving(wait, JSON + b"Content-Length: 2\r\n\r\nok") as (played, client):
        waiting = asyncio.create_task(_post(played, client))
        while not played.requests:
            await asyncio.sleep(0.01)
        waiting.cancel()
        async with asyncio.timeout(5):
            await left.wait()
        assert await _whole(await _post(played, client)) == b"ok"


async def test_a_server_is_made_to_wait_for_whoever_reads_slowly() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(JSON + b"\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with serving(endless) as (played, client):
        answer = await _post(played, client)
        await answer.read_piece()
        before = -1
        async with asyncio.timeout(10):
            while sent != before:  # until it can send no more
                before = sent
                await asyncio.sleep(0.2)
        assert len(await answer.read_piece()) < 1024 * 1024
        async with asyncio.timeout(10):
            while sent == before:
                await answer.read_piece()
        answer.close()


@pytest.mark.parametrize("header", [(b"X", b"a\r\nY: b"), (b"X\nY", b"b"), (b"X", b"a\rb"), (b"X", b"\xe4")])
async def test_a_header_cannot_make_another_one(header: tuple[bytes, bytes]) -> None:
    async with serving(JSON) as (played, client):
        with pytest.raises(MalformedResponseError):
            await client.send("POST", played.url, headers=[header], body=b"")
        assert played.connections == 0


async def test_an_address_inside_is_judged_before_anything_is_opened(settings: Settings) -> None:
    async with serving(JSON) as (played, client):
        settings.EGRESS_ALLOW = ["192.0.2.0/24"]
        for url in (played.url, played.url.replace("127.0.0.1", "localhost"), played.url.replace("127.0.0.1", "[::1]")):
            with pytest.raises(BlockedUrlError):
                await client.send("POST", url, headers=(), body=b"")
        assert played.connections == 0


@requirement("G09")
async def test_many_at_once_each_get_their_own_answer_on_new_and_on_kept_connections() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = played.requests[-1].partition(b"\r\n\r\n")[2]
        await asyncio.sleep(0.001 * (int(body) % 7))
        writer.write(JSON + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    async with serving(*[echo] * 600) as (played, client), asyncio.timeout(60):

        async def one(number: int) -> bytes:
            return await _whole(await _post(played, client, b"%d" % number))

        for _ in range(2):
            found: Sequence[bytes] = await asyncio.gather(*(one(number) for number in range(300)))
            assert found == [b"%d" % number for number in range(300)]
        assert played.connections < 600


class Transport(asyncio.Transport):
    """Counts how often it was aborted."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.aborted += 1


def _connected() -> tuple[Origin[RelayWire], RelayWire, Transport]:
    url = parse_http_url("http://127.0.0.1:1")
    origin = Origin(url, connect_seconds=1, kept_seconds=60, make=RelayWire)
    wire, transport = RelayWire(origin), Transport()
    wire.connection_made(transport)
    return origin, wire, transport


async def test_what_stands_behind_the_body_says_nothing_about_the_answer() -> None:
    late = b"0\r\nContent-Type: text/html\r\nMcp-Session-Id: evil\r\n\r\n"
    async with serving(JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" + late) as (played, client):
        answer = await _post(played, client)
        assert await _whole(answer) == b"ok"
        assert (answer.header(b"content-type"), answer.header(b"mcp-session-id")) == (b"application/json", b"")


@pytest.mark.parametrize(
    "endless", [b"0\r\nX: " + b"a" * 400_000, b"2;" + b"a" * 400_000, b"0\r\n" + b"X: a\r\n" * 70_000]
)
async def test_what_stands_beside_the_body_may_not_go_on_for_ever(endless: bytes) -> None:
    async with serving(JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" + endless) as (played, client):
        answer = await _post(played, client)
        assert await answer.read_piece() == b"ok"
        with pytest.raises(MalformedResponseError):
            async with asyncio.timeout(5):
                await answer.read_piece()


async def test_whoever_leaves_late_does_not_cut_the_connection_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    ok = JSON + b"Content-Length: 2\r\n\r\nok"
    async with serving(ok, ok) as (played, client):
        first, keep = asyncio.create_task(_post(played, client)), Origin.keep

        def kept(self: Origin[RelayWire], wire: RelayWire) -> None:
            keep(self, wire)
            first.cancel()  # between the end of its answer and its turn to read that

        monkeypatch.setattr(Origin, "keep", kept)
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await _whole(await _post(played, client)) == b"ok"
        assert played.connections == 1


async def test_an_answer_that_nobody_waits_for_gives_no_connection_back() -> None:
    origin, wire, transport = _connected()
    wire.send(b"").cancel()
    wire.data_received(JSON + b"Content-Length: 2\r\n\r\nok")
    assert transport.aborted == 1
    assert origin.idle_wire() is None


async def test_nothing_is_sent_on_a_connection_that_was_closed() -> None:
    _, lost, _ = _connected()
    lost.connection_lost(None)
    _, ending, _ = _connected()
    ending.eof_received()
    for wire in (lost, ending):
        with pytest.raises(TransportError):
            wire.send(b"")


async def test_an_answer_without_a_length_that_we_cut_is_not_whole() -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(JSON + b"\r\nhalf of it")
        await reader.read()

    async with serving(wait) as (played, client):
        answer = await _post(played, client)
        assert await answer.read_piece() == b"half of it"
        await client.close()
        with pytest.raises(TransportError):
            await answer.read_piece()


async def test_a_server_that_answers_too_early_gets_no_further_request_on_that_connection() -> None:
    ok = JSON + b"Content-Length: 2\r\n\r\nok"
    played, answered = Server(), asyncio.Event()

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        played.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok)
        await answered.wait()
        writer.close()

    server, client = await asyncio.start_server(early, "127.0.0.1", 0), RelayClient()
    played.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    for body in (b"x" * 50_000_000, b"{}"):
        async with asyncio.timeout(10):
            assert await _whole(await _post(played, client, body)) == b"ok"
    answered.set()
    await client.close()
    server.close()
    assert played.connections == 2


async def test_connections_that_nobody_comes_back_for_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_client, "_KEPT_SECONDS", 0.05)
    closed = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(JSON + b"Content-Length: 2\r\n\r\nok")
        await reader.read()
        closed.set()

    async with serving(answer) as (played, client):
        assert await _whole(await _post(played, client)) == b"ok"
        async with asyncio.timeout(5):
            await closed.wait()
