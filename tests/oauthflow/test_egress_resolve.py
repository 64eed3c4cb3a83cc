"""Name look-ups and sockets: one question, every answer judged, the next address where one is dead."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from oauthlib.oauth2 import InsecureTransportError
from pytest_django import Settings

from oauthflow.egress import Egress, Limits, blocking, exchange, resolve
from oauthflow.egress.addresses import Address
from oauthflow.egress.asynchronous import GuardedBackend
from oauthflow.egress.limits import current_budget
from oauthflow.protocol.errors import BlockedUrlError, MalformedResponseError, ResponseTimeoutError, TransportError
from oauthflow.protocol.messages import Request
from tests.requirements import requirement

from .loopback import Canary, http_response, serving


def system_answers(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    asked: list[str] = []

    def getaddrinfo(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "unknown name")
        return [(0, 0, 0, "", (answer, 0)) for answer in answers]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@requirement("U-05")
@pytest.mark.parametrize("answers", [("127.0.0.1",), ("1.1.1.1", "10.0.0.1"), ("fe80::1%lo",), ("::ffff:127.0.0.1",)])
def test_the_answers_of_the_system_are_judged(answers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    system_answers(monkeypatch, *answers)
    with pytest.raises(BlockedUrlError):
        resolve.resolve("as.example", port=443, plain=False, seconds=1)


def test_public_answers_are_kept_in_their_order_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = system_answers(monkeypatch, "2606:4700::1", "1.1.1.1", "1.1.1.1")
    found = resolve.resolve("as.example", port=443, plain=False, seconds=1)
    assert [str(address) for address in found] == ["2606:4700::1", "1.1.1.1"]
    assert asked == ["as.example"]


def test_an_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = system_answers(monkeypatch, "127.0.0.1")
    assert [str(one) for one in resolve.resolve("1.1.1.1", port=443, plain=False, seconds=1)] == ["1.1.1.1"]
    assert asked == []


def test_an_unknown_name_is_a_transport_error(monkeypatch: pytest.MonkeyPatch) -> None:
    system_answers(monkeypatch)
    with pytest.raises(TransportError):
        Egress().send(Request("GET", "https://nowhere.example/"))


def test_the_next_address_is_tried_where_one_is_dead(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.EGRESS_ALLOW = ("mcp.internal",)
    dead_then_alive: list[Address] = [ipaddress.ip_address("::1"), ipaddress.ip_address("127.0.0.1")]
    monkeypatch.setattr(resolve, "lookup", lambda host: dead_then_alive)
    with serving(http_response()) as server:
        response = Egress().send(Request("GET", f"http://mcp.internal:{server.port}/"))
    assert response.status == 200


def test_a_server_that_stalls_in_the_tls_handshake_is_given_up(settings: Settings) -> None:
    listener = Canary()
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    with pytest.raises(ResponseTimeoutError):
        Egress().send(Request("GET", f"https://127.0.0.1:{listener.port}/"), limits=Limits(1000, connect_seconds=0.1))
    listener.close()


def test_no_connection_is_opened_outside_of_an_exchange() -> None:
    with pytest.raises(LookupError):
        current_budget()
    with pytest.raises(LookupError):
        blocking.GuardedSession().get("https://127.0.0.1/")


def test_there_is_no_way_round_by_a_proxy_or_a_local_socket() -> None:
    with pytest.raises(BlockedUrlError):
        blocking.GuardedAdapter().proxy_manager_for("http://127.0.0.1:3128")


async def test_the_asynchronous_side_opens_no_local_socket() -> None:
    backend = GuardedBackend(Limits.MCP, plain=True)
    await backend.sleep(0)
    with pytest.raises(BlockedUrlError):
        await backend.connect_unix_socket("/var/run/docker.sock")


def test_a_refusal_of_the_oauth_library_is_a_malformed_response() -> None:
    def refuse() -> None:
        raise InsecureTransportError

    with pytest.raises(MalformedResponseError):
        exchange._translated(refuse)
