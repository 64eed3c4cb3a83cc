"""The metrics of this process. Labels are names of ours and hosts of issuers; never a person or a URL."""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from prometheus_client import Counter, Histogram

if TYPE_CHECKING:
    from gateway.calls.record import NotedCall

_MOST_ISSUERS: Final = 200
_MOST_SERVERS: Final = 200
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400

HTTP_REQUESTS: Final = Counter("mcp_oauth_http_requests", "Requests answered.", ["method", "route", "status"])
HTTP_SECONDS: Final = Histogram(
    "mcp_oauth_http_request_seconds", "From the first byte of a request to its answer.", ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)  # fmt: skip
EVENTS: Final = Counter("mcp_oauth_events", "Audit records by event.", ["event"])
AUTHORIZATIONS: Final = Counter("mcp_oauth_authorizations", "Sign-ins by outcome and code.", ["outcome", "code"])
REFRESHES: Final = Counter(
    "mcp_oauth_refreshes", "Refreshes by outcome and authorization server.", ["outcome", "issuer"]
)
REFRESH_SECONDS_LEFT: Final = Histogram(
    "mcp_oauth_refresh_seconds_left", "How long before its end an access token was renewed; below 0: after it.",
    buckets=(-_HOUR, -_MINUTE, 0, 30, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 6 * _HOUR, _DAY),
)  # fmt: skip
STAND_IN_RUNS: Final = Counter(
    "mcp_oauth_stand_in_runs", "Searches for due tokens by workers themselves, because beat was silent."
)
TOKEN_RELEASES: Final = Counter("mcp_oauth_token_releases", "Access tokens given to programs.")
TOKEN_REQUESTS: Final = Counter(
    "mcp_oauth_token_requests", "Requests for tokens of our own, by grant and outcome.", ["grant_type", "outcome"]
)
GATEWAY_CALLS: Final = Counter(
    "mcp_oauth_gateway_calls",
    "Requests of MCP clients by outcome.",
    ["server", "method", "outcome"],
)
GATEWAY_SECONDS: Final = Histogram(
    "mcp_oauth_gateway_call_seconds", "From the judgement of a request to the end of its answer.", ["server"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)  # fmt: skip
GATEWAY_BYTES: Final = Counter(
    "mcp_oauth_gateway_bytes", "Bytes of requests and answers, as far as they were relayed.", ["server", "direction"]
)
EGRESS_REQUESTS: Final = Counter("mcp_oauth_egress_requests", "Requests to other servers.", ["step", "outcome"])
EGRESS_SECONDS: Final = Histogram(
    "mcp_oauth_egress_request_seconds", "From the start of a request to another server to its end.", ["step"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)  # fmt: skip

RELEASE_ROUTE: Final = "api/v1/connections/<str:connection_id>/token"
"""As `urls.py` calls it, so that releases with and without Django are counted together."""
GATEWAY_ROUTE: Final = "mcp/<slug>"

_issuers: set[str] = set()
_servers: set[str] = set()


def count_request(*, method: str, route: str, status: int, seconds: float) -> None:
    """Count a request of ours. A route is a pattern of `urls.py`; what matches none has no route."""
    counter, histogram = _of_request(method, route or "none", status)
    counter.inc()
    histogram.observe(seconds)


@lru_cache(maxsize=5000)
def _of_request(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Finding them costs more than counting; methods, routes and statuses are few."""
    counter = HTTP_REQUESTS.labels(method if method in _METHODS else "other", route, str(status))
    return counter, HTTP_SECONDS.labels(route)


def count_release(status: int, seconds: float) -> None:
    """Count an answer that `oauthflow.token_release` gave."""
    count_request(method="POST", route=RELEASE_ROUTE, status=status, seconds=seconds)


def count_endpoint(path: str, method: str, status: int, seconds: float) -> None:
    """Count an answer that `authserver.endpoints` gave; its paths are its routes."""
    count_request(method=method, route=path.removeprefix("/"), status=status, seconds=seconds)


def count_gateway(method: str, status: int, seconds: float) -> None:
    """Count an answer that `gateway` gave; of a stream the seconds until its end."""
    counter, histogram = _of_request(method, GATEWAY_ROUTE, status)
    counter.inc()
    histogram.observe(seconds)


def count_token_answer(sender: object, grant_type: str, error: str, **kwargs: object) -> None:
    """Count an answer of the token endpoint. Receives `authserver.signals.TOKEN_ANSWERED`."""
    TOKEN_REQUESTS.labels(grant_type, error or "issued").inc()


def count_gateway_calls(sender: object, calls: Sequence[NotedCall], **kwargs: object) -> None:
    """Count calls through the gateway. Receives `gateway.signals.CALLS_NOTED`."""
    of_server: defaultdict[str, list[NotedCall]] = defaultdict(list)
    for call in calls:
        of_server[_bounded(call.server, _servers, most=_MOST_SERVERS)].append(call)
    for server, its in of_server.items():  # finding a metric by its labels costs more than counting
        for (method, outcome), count in Tally((call.method, call.outcome.value) for call in its).items():
            GATEWAY_CALLS.labels(server, method, outcome).inc(count)
        seconds = GATEWAY_SECONDS.labels(server)
        for call in its:
            seconds.observe(call.milliseconds / 1000)
        GATEWAY_BYTES.labels(server, "request").inc(sum(call.request_bytes for call in its))
        GATEWAY_BYTES.labels(server, "response").inc(sum(call.response_bytes for call in its))


def issuer_label(issuer: str) -> str:
    """Return the host of an issuer; `other` once there are more than a dashboard can show."""
    try:
        host = urlsplit(issuer).hostname or "unknown"
    except ValueError:
        host = "unknown"
    return _bounded(host, _issuers, most=_MOST_ISSUERS)


def _bounded(label: str, known: set[str], *, most: int) -> str:
    if label not in known:
        if len(known) >= most:
            return "other"
        known.add(label)
    return label
