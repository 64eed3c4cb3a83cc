"""What the sign-in page says of the program for which somebody is about to sign in, perhaps at a third party."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.urls import reverse

from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.urls import parse_http_url

from .flows.begin_authorization import rules_of
from .flows.resolve_client import known_client, needs_document
from .protocol.authorization_request import read_answerable, read_client_id
from .protocol.client_document import is_document_url
from .protocol.errors import OAuthError
from .protocol.redirect_uri import is_loopback, shown_host
from .resources import api_resource, scopes_of


@dataclass(frozen=True, slots=True)
class AskingProgram:
    """A program that wants an authorization.

    Attributes:
        place: The host to which the answer goes; of a metadata document, which nobody has looked at yet, its own host.
        resource: Host and path of what it wants to use; empty where there is no such thing here.
        name: Its own word, or what an administrator vouches for; empty where it is not known.
        verified: Whether an administrator does.
        is_described: `place` is where its metadata document lies.
        is_loopback: `place` is the person's own computer.
    """

    place: str
    resource: str
    name: str = ""
    verified: bool = False
    is_described: bool = False
    is_loopback: bool = False


def asking_program(target: str, *, now: datetime) -> AskingProgram | None:
    """Read it from where the person goes after the sign-in. Nothing is fetched for people whom nobody knows. AS04.

    Args:
        target: An address of this site, as a path or whole.
        now: Aware UTC.

    Returns:
        None where no program asks, or none that the authorization endpoint would listen to.

    Spec: security best practices of MCP, confused deputy. P-01, P-03, AS08.
    """
    address = urlsplit(target)
    is_ours = address.netloc in ("", urlsplit(settings.PUBLIC_URL).netloc)
    if not is_ours or address.path != reverse("authserver:authorize"):
        return None
    parameters = parse_qs(address.query)
    try:
        client_id = read_client_id(parameters)
        if needs_document(client_id):
            return _described(client_id, parameters)
        client = known_client(client_id, now=now)
        redirect_uri = read_answerable(parameters, client=rules_of(client)).redirect_uri
    except OAuthError:
        return None
    return AskingProgram(
        shown_host(redirect_uri),
        _resource(parameters),
        name=client.name,
        verified=client.verified,
        is_loopback=is_loopback(redirect_uri),
    )


def _described(client_id: str, parameters: Mapping[str, Sequence[str]]) -> AskingProgram | None:
    if not is_document_url(client_id):
        return None
    return AskingProgram(parse_http_url(client_id).authority, _resource(parameters), is_described=True)


def _resource(parameters: Mapping[str, Sequence[str]]) -> str:
    """Never what only the request says: an address of somebody else would lend it that name."""
    asked = next(iter(parameters.get("resource", ())), "") or api_resource()
    try:
        url = parse_http_url(asked)
    except FlowError:
        return ""
    return url.authority + url.path if scopes_of(asked) is not None else ""
