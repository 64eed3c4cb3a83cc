"""Our own settings: names with units, each with the reason for its default."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True, slots=True)
class Configuration:
    """What `MCP_OAUTH` in the settings may change.

    Attributes:
        authorization_request_lifetime_seconds: People read e-mail for a code in between.
        refresh_margin_seconds: Tokens with less left are refreshed on demand.
        short_life_seconds: Tokens that live shorter than this are refreshed at half of their life.
        lease_seconds: Longer than the hard deadline of a refresh request, so that a slow answer is never raced.
        lease_wait_seconds: How long a caller waits for another's refresh.
        refresh_cooldown_seconds: Shortest pause after a failed refresh; the longest doubles each time, up to an hour.
        negative_cache_seconds: How long a failed discovery is believed.
        step_up_limit: How often a person is asked for the same scopes while the server refuses all the same. S-09.
        finished_request_kept_seconds: How long pollers can still ask how a request ended.
        client_name: What authorization servers show to people.
        require_iss: Whether authorization servers that do not promise `iss` (RFC 9207) are refused as soon as more than
            one issuer is known here. Off, because many services do not promise it yet; a check warns of them. S10.
        revoke_deactivated: Whether the grants and API tokens of people who are deactivated end. On, because who leaves
            a site leaves access to other services behind; off where people are only suspended for a while. Z06.
    """

    authorization_request_lifetime_seconds: int = 600
    refresh_margin_seconds: int = 300
    short_life_seconds: int = 600
    lease_seconds: int = 60
    lease_wait_seconds: int = 20
    refresh_cooldown_seconds: int = 30
    negative_cache_seconds: int = 60
    step_up_limit: int = 2
    finished_request_kept_seconds: int = 3600
    client_name: str = "MCP OAuth Site"
    require_iss: bool = False
    revoke_deactivated: bool = True


def configuration() -> Configuration:
    """Read `settings.MCP_OAUTH`.

    Raises:
        ImproperlyConfigured: It has a name that does not exist.
    """
    given: dict[str, Any] = getattr(settings, "MCP_OAUTH", {})
    return _configuration(tuple(given.items()))


@lru_cache(maxsize=16)
def _configuration(items: tuple[tuple[str, Any], ...]) -> Configuration:
    given = dict(items)
    if unknown := given.keys() - {field.name for field in fields(Configuration)}:
        raise ImproperlyConfigured(f"MCP_OAUTH has no setting {sorted(unknown)[0]}.")
    return replace(Configuration(), **given)


def redirect_uri() -> str:
    """Where authorization servers send people back to; from `PUBLIC_URL` and nothing else. S14."""
    return f"{settings.PUBLIC_URL}/api/v1/oauth/callback"


def metadata_document_url() -> str | None:
    """The address of our Client ID Metadata Document, or None where it could not be used. R-05."""
    url: str = settings.CLIENT_METADATA_URL
    return url if url.startswith("https://") else None


def client_jwks_url() -> str:
    """Where our public keys for private_key_jwt are."""
    return f"{settings.PUBLIC_URL}/oauth/client-jwks.json"


def served_from_web() -> bool:
    """Whether this site is a web client in the sense of OpenID registration, as opposed to one on localhost. R-16."""
    return bool(settings.PUBLIC_URL.startswith("https://"))
