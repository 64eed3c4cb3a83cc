"""A proof for somebody who was given a bound token: the key stays here. RFC 9449 §7."""

from __future__ import annotations

from datetime import datetime

from connections.database_time import by_database
from connections.dpop_keys import dpop_key
from connections.models import Connection
from oauthflow.protocol.dpop import dpop_proof
from oauthflow.protocol.errors import InvalidRequestError
from oauthflow.protocol.token_endpoint import DPOP
from oauthflow.protocol.urls import parse_http_url

from .access_token import usable_access_token


def prove_request(connection: Connection, *, method: str, url: str, nonce: str, now: datetime) -> str:
    """Return a proof for one request to the connection's own server with the token that is released now.

    Args:
        connection: With a token of type DPoP.
        method: Of the request.
        url: Of the request: the server's configured address or one below it; nothing else is proved.
        nonce: The last one that the server gave; empty: none.
        now: Aware UTC.

    Raises:
        InvalidRequestError: The token is not bound, or the address is not the server's.
        FlowError: As `usable_access_token`.
    """
    if not _is_of_server(url, connection.server.url):
        raise InvalidRequestError("the address is not that of the connection's server")
    token = usable_access_token(connection, now=now)
    if token.token_type != DPOP:
        raise InvalidRequestError("the token is not bound to a key and needs no proof")
    key, moment = dpop_key(connection), by_database(now)
    return dpop_proof(key, method=method, url=url, now=moment, nonce=nonce, access_token=token.access_token)


def _is_of_server(url: str, server_url: str) -> bool:
    asked, server = parse_http_url(url), parse_http_url(server_url)
    below = server.path.rstrip("/") + "/"
    return asked.origin == server.origin and (asked.path == server.path or asked.path.startswith(below))
