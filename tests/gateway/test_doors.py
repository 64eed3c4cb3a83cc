"""Who is let in before anything else is looked at: addresses, hosts, origins; what those without a token are told."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from gateway.endpoint.exchange import Exchange
from tests.requirements import requirement

from .front import LEGACY, MODERN, Front, legacy_call, modern_call, standing
from .test_paths import STRANGE
from .upstream import answers, streams
from .wire import ORDINARY, listening

APP = "https://app.example"
ASKED = (
    "authorization, content-type, mcp-protocol-version, mcp-session-id, mcp-param-my_city, mcp-param-!#$%&'*+-.^_`|~"
)
METADATA = "http://localhost:8000/.well-known/oauth-protected-resource/mcp/files"


@requirement("G-01", "G06")
@pytest.mark.parametrize("path", ["/mcp/unknown", *STRANGE])
async def test_no_other_address_reaches_a_server(front: Front, path: str) -> None:
    for method in ("POST", "GET", "DELETE", "OPTIONS"):
        answer = await front.ask(modern_call() if method == "POST" else b"", MODERN, method=method, path=path)
        assert (answer.status, answer.header("content-type")) == (404, "application/json")
    assert front.upstream.seen == []


@requirement("G06")
async def test_no_query_goes_on_and_none_may_hold_a_token(front: Front) -> None:
    assert (await front.ask(modern_call(), MODERN, query=b"a=b&url=https://evil.example")).status == 200
    assert [seen.path for seen in front.upstream.seen] == ["/mcp"]
    assert (await front.ask(modern_call(), MODERN, query=b"access_token=x")).status == 400
    assert len(front.upstream.seen) == 1


@requirement("G-01")
@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "TRACE", "OPTIONS", "QUERY"])
async def test_other_methods_are_405(front: Front, method: str) -> None:
    answer = await front.ask(b"", MODERN, method=method)
    assert (answer.status, answer.header("allow")) == (405, "GET, POST, DELETE")
    assert front.upstream.seen == []


@requirement("G-01", "G08")
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_modern_client_has_post_only(front: Front, method: str) -> None:
    answer = await front.ask(b"", {"Mcp-Protocol-Version": "2026-07-28"}, method=method)
    assert (answer.status, answer.header("allow")) == (405, "POST")
    assert front.upstream.seen == []


@requirement("G07")
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("testserver", 200), ("testserver:8000", 200), ("TESTSERVER", 200), ("127.0.0.1", 200), ("evil.example", 421),
        ("testserver.evil.example", 421), ("testserver@evil.example", 400), ("", 400), ("a b", 400), ("[::1", 400),
        ("169.254.169.254", 421), ("testserver, evil.example", 400),
    ],
)  # fmt: skip
async def test_only_our_own_names_are_served(front: Front, host: str, status: int) -> None:
    answer = await front.ask(modern_call(), MODERN, host=host)
    assert answer.status == status
    assert len(front.upstream.seen) == (status == 200)


@requirement("G-02", "G07")
@pytest.mark.parametrize(
    "origin",
    [
        "null", "https://evil.example", "http://app.example", "https://app.example.evil.example", "https://app.example:444",
        "https://app.example/", "HTTPS://app.example", "", "file://", "http://localhost:8001", "*",
    ],
)  # fmt: skip
async def test_a_page_of_another_origin_is_refused_whatever_it_brings(
    front: Front, settings: Settings, origin: str
) -> None:
    settings.CORS_ALLOWED_ORIGINS = (APP,)
    for method, body in (
        ("POST", modern_call()),
        ("POST", legacy_call()),
        ("GET", b""),
        ("DELETE", b""),
        ("OPTIONS", b""),
    ):
        headers = MODERN if b"_meta" in body else LEGACY
        answer = await front.ask(body, {**headers, "Origin": origin}, method=method)
        assert answer.status == 403
        assert answer.header("access-control-allow-origin") is None
    assert front.upstream.seen == []


@requirement("G-02")
@pytest.mark.parametrize("origin", [APP, "http://localhost:8000"])
async def test_a_page_of_an_allowed_origin_can_call_and_read(front: Front, settings: Settings, origin: str) -> None:
    settings.CORS_ALLOWED_ORIGINS = (APP,)
    asked = f"{ASKED}, mcp-param-, mcp-param-a b, mcp-param-\u00e4, cookie, x-evil"
    preflight = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked}
    answer = await front.ask(b"", {**preflight, "Authorization": None}, method="OPTIONS")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.header("access-control-allow-methods") == "GET, POST, DELETE"
    assert answer.header("access-control-allow-headers") == ASKED
    front.upstream.behave = answers(headers={"Access-Control-Allow-Origin": "*"})
    failing = front.ask(modern_call(), {**MODERN, "Origin": origin, "Authorization": None})
    for found in (answer, await front.ask(modern_call(), {**MODERN, "Origin": origin}), await failing):
        named = [value for name, value in found.headers if name == "access-control-allow-origin"]
        assert named == [origin]
        assert found.header("access-control-allow-credentials") is None
        exposed = (found.header("access-control-expose-headers") or "").split(", ")
        assert {"WWW-Authenticate", "Mcp-Session-Id", "Retry-After"} <= set(exposed)


@requirement("G-02")
@pytest.mark.parametrize(
    ("path", "more", "status"),
    [
        ("/mcp/unknown", {}, 404), ("/mcp/files/more", {}, 404), ("/mcp/files", {"mcp_method": "ping"}, 400),
        ("/mcp/files", {"Mcp-Param-City": "K\u00f6ln"}, 400),
    ],
)  # fmt: skip
async def test_a_page_of_an_allowed_origin_can_read_what_is_refused_before_anything_else(
    front: Front, settings: Settings, path: str, more: dict[str, str], status: int
) -> None:
    settings.CORS_ALLOWED_ORIGINS = (APP,)
    answer = await front.ask(modern_call(), {**MODERN, **more, "Origin": APP}, path=path)
    assert (answer.status, answer.header("access-control-allow-origin")) == (status, APP)
    other = await front.ask(modern_call(), {**MODERN, **more, "Origin": "https://evil.example"}, path=path)
    assert (other.status, other.header("access-control-allow-origin")) == (403, None)


@requirement("G-02")
async def test_a_preflight_does_not_tell_which_servers_there_are(front: Front, settings: Settings) -> None:
    """A page learns it from the answer to its request, which it could not read without."""
    settings.CORS_ALLOWED_ORIGINS = (APP,)
    preflight = {"Origin": APP, "Access-Control-Request-Method": "POST"}
    for path in ("/mcp/files", "/mcp/unknown"):
        assert (await front.ask(b"", preflight, method="OPTIONS", path=path)).status == 204


@requirement("G-02", "G04")
async def test_two_origins_are_refused_and_no_page_reads_that(front: Front, settings: Settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = (APP,)
    answer = await front.ask(
        modern_call(), MODERN, more=[(b"origin", APP.encode()), (b"origin", b"https://evil.example")]
    )
    assert (answer.status, answer.header("access-control-allow-origin")) == (400, None)


@requirement("X-11")
async def test_every_page_may_read_the_metadata_and_that_there_are_none(front: Front) -> None:
    preflight = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "mcp-protocol-version"}
    path = METADATA.removeprefix("http://localhost:8000")
    for found, status in ((path, 405), (path.replace("files", "unknown"), 404)):
        asked = {"Origin": "https://any.example", "Authorization": None}
        answer = await front.ask(b"", {**asked, **preflight}, method="OPTIONS", path=found)
        assert (answer.status, answer.body, answer.header("access-control-allow-methods")) == (204, b"", "GET")
        assert "mcp-protocol-version" in (answer.header("access-control-allow-headers") or "").lower()
        refused = await front.ask(b"", asked, method="DELETE", path=found)
        assert refused.status == status
        for one in (answer, refused):
            assert [value for name, value in one.headers if name == "access-control-allow-origin"] == ["*"]


@requirement("G-03", "G02", "D-03", "S-01", "S-04", "S-06", "S-11", "T-07")
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "initialize", "modern"])
async def test_without_a_token_the_server_hears_nothing_and_the_client_learns_where_to_get_one(
    front: Front, method: str
) -> None:
    front.upstream.behave = streams(b"data: {}\n\n")
    body = {"GET": b"", "DELETE": b"", "modern": modern_call(), "initialize": legacy_call(method="initialize")}
    sent = body.get(method, legacy_call())
    headers = MODERN if method == "modern" else LEGACY
    verb = method if method in ("GET", "DELETE") else "POST"
    missing = await front.ask(sent, {**headers, "Authorization": None, "Mcp-Session-Id": "a"}, method=verb)
    challenge = f'Bearer scope="mcp:access", resource_metadata="{METADATA}"'
    assert (missing.status, missing.header("www-authenticate")) == (401, challenge)
    bad = await front.ask(sent, {**headers, "Authorization": "Bearer bad"}, method=verb)
    said = bad.header("www-authenticate") or ""
    assert (bad.status, bad.json()["error"]) == (401, "invalid_token")
    assert said.startswith('Bearer error="invalid_token", error_description="The access token has expired."')
    assert said.endswith(challenge.removeprefix("Bearer "))
    assert "offline_access" not in said
    assert front.upstream.seen == []


@requirement("G10")
async def test_a_message_that_is_too_long_is_refused_before_it_is_read_to_its_end(front: Front) -> None:
    client = front.open(b" " * (1024 * 1024 + 1), MODERN)
    answer = await client.end()
    assert (answer.status, answer.header("connection")) == (400, "close")
    assert answer.json()["error"]["code"] == -32000
    assert not client.was_read
    assert front.upstream.seen == []


@requirement("G10")
@pytest.mark.parametrize("sent_as", ["one piece", "many pieces"])
async def test_nor_is_one_taken_that_does_not_say_how_long_it_is(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, sent_as: str
) -> None:
    settings.GATEWAY = {"message_bytes": 1000}
    head = b"POST /mcp/files HTTP/1.1\r\n" + ORDINARY + b"Transfer-Encoding: chunked\r\n\r\n"
    async with standing(monkeypatch, settings) as front, listening(front.gateway) as wire:
        for length, status in ((1000, b"200"), (1001, b"400")):
            body = legacy_call().ljust(length)  # good but for its length
            chunks = [b"64\r\n%b\r\n" % body[at : at + 100] for at in range(0, 1000, 100)]
            chunks += [b"1\r\n%b\r\n" % body[1000:]] if length > 1000 else []
            pieces = [head, *chunks, b"0\r\n\r\n"]
            received, closed = await wire.talk(*(pieces if sent_as == "many pieces" else [b"".join(pieces)]))
            assert (received[9:12], closed) == (status, status == b"400")
        assert len(front.upstream.seen) == 1


async def test_a_body_in_tiny_pieces_is_counted_once() -> None:
    """Each piece costs the same, however much came before it."""
    counted = 0

    class Piece(bytes):
        def __len__(self) -> int:
            nonlocal counted
            counted += 1
            return super().__len__()

    left = [Piece(b"x") for _ in range(500)]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": left.pop(), "more_body": bool(left)}

    async def send(message: object) -> None:
        """Nothing is answered here."""

    exchange = Exchange({"method": "POST", "headers": []}, receive, send)
    assert await exchange.body(most=1000) == b"x" * 500
    assert counted <= 1000
