"""Look a host up once, judge every answer, and connect to an answer that was judged."""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import socket
import threading

from ..protocol.errors import ResponseTimeoutError, TransportError
from ..protocol.urls import ParsedUrl
from .addresses import Address, Allowance, literal_address, require_addresses, require_url
from .limits import Budget, Limits


def lookup(host: str) -> list[Address]:
    """Ask the system's resolver for every address of a name.

    Raises:
        OSError: The name has none.
    """
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    found = (ipaddress.ip_address(str(answer[4][0])) for answer in answers)
    return list(dict.fromkeys(found))


def resolve(host: str, *, port: int, plain: bool, seconds: float) -> list[Address]:
    """Return the addresses to connect to; nothing is looked up again afterwards.

    Args:
        host: Canonical host of a `ParsedUrl`.
        port: The port that is about to be connected to.
        plain: Whether no TLS will be spoken.
        seconds: How long the look-up may take.

    Raises:
        BlockedUrlError: One of the addresses may not be reached, so none is.
        TransportError: The name does not resolve, or not in time.

    Spec: U-05.
    """
    literal = literal_address(host)
    addresses = [literal] if literal and host == str(literal) else _lookup_within(seconds, host=host)
    require_addresses(addresses, host=host, port=port, plain=plain, allowed=Allowance.current())
    return addresses


def judge_url(text: str) -> ParsedUrl:
    """Take an address apart that somebody wants us to send to later, and refuse one that leads inside.

    A name that does not resolve now passes: it is judged again whenever something is sent.

    Raises:
        BlockedUrlError: Not a canonical http or https URL, or not one that may be reached from here.

    Spec: U-01, U-02, U-03.
    """
    url = require_url(text, allowed=Allowance.current())
    with contextlib.suppress(TransportError):
        resolve(url.host, port=url.port, plain=url.scheme == "http", seconds=Limits.METADATA.connect_seconds)
    return url


def _lookup_within(seconds: float, *, host: str) -> list[Address]:
    # The system's resolver takes no deadline, and whoever owns the name decides how slowly it answers.
    outcome: queue.SimpleQueue[list[Address] | Exception] = queue.SimpleQueue()

    def answer() -> None:
        try:
            outcome.put(lookup(host))
        except (OSError, ValueError) as error:
            outcome.put(error)

    threading.Thread(target=answer, name="egress-lookup", daemon=True).start()
    try:
        result = outcome.get(timeout=seconds)
    except queue.Empty:
        raise ResponseTimeoutError(f"the name look-up took longer than {seconds:.3g} s") from None
    if isinstance(result, Exception) or not result:
        raise TransportError("the name does not resolve")
    return result


def open_socket(host: str, *, port: int, plain: bool, budget: Budget) -> socket.socket:
    """Open a TCP connection to a host after judging its addresses.

    Raises:
        BlockedUrlError: The host may not be reached.
        TransportError: No address of it answers.
    """
    until = Budget(budget.limits, seconds=budget.seconds(budget.limits.connect_seconds))
    addresses = resolve(host, port=port, plain=plain, seconds=until.seconds(budget.limits.connect_seconds))
    for tried, address in enumerate(addresses):
        # A share of the time for each, so that a dead first address leaves some for the next.
        share = until.seconds(budget.limits.connect_seconds) / (len(addresses) - tried)
        connection = _connect(address, port=port, seconds=share)
        if connection is not None:
            connection.settimeout(until.seconds(budget.limits.connect_seconds))
            return connection
    raise TransportError("no address of the host could be connected to")


def _connect(address: Address, *, port: int, seconds: float) -> socket.socket | None:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect((str(address), port))
    except OSError:
        connection.close()
        return None
    return connection
