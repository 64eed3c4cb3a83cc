"""The addresses that programs ask: which method they take, and whether scripts of other sites may read them."""

from __future__ import annotations

from typing import Final, NamedTuple

from .plain_answers import Answer, wrong_method

TOKEN: Final = "/oauth/token"
INTROSPECT: Final = "/oauth/introspect"
REVOKE: Final = "/oauth/revoke"
JWKS: Final = "/oauth/jwks"


class Endpoint(NamedTuple):
    """`is_cross_origin`: programs in browsers use it; without cookies, so that every origin may. X-11."""

    method: str
    is_cross_origin: bool


ENDPOINTS: Final = {
    TOKEN: Endpoint("POST", is_cross_origin=True),
    REVOKE: Endpoint("POST", is_cross_origin=True),
    JWKS: Endpoint("GET", is_cross_origin=True),
    INTROSPECT: Endpoint("POST", is_cross_origin=False),
}
_ANY_ORIGIN: Final = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After, X-Request-ID"),
)
_PREFLIGHT: Final = (
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, MCP-Protocol-Version, X-Request-ID"),
    ("Access-Control-Max-Age", "600"),
)


def without_asking(path: str, method: str) -> Answer | None:
    """Return the answer to a preflight or to a wrong method; None where the endpoint has to answer."""
    endpoint = ENDPOINTS[path]
    if method == endpoint.method or (method == "HEAD" and endpoint.method == "GET"):
        return None
    if method == "OPTIONS" and endpoint.is_cross_origin:
        return Answer(204, headers=(("Access-Control-Allow-Methods", endpoint.method), *_PREFLIGHT))
    return wrong_method(endpoint.method)


def sent_headers(path: str, answer: Answer) -> tuple[tuple[str, str], ...]:
    """Return an answer's headers with those for other origins; `*` never goes with credentials."""
    return answer.headers + _ANY_ORIGIN if ENDPOINTS[path].is_cross_origin else answer.headers
