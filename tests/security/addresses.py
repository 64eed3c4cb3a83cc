"""Every address that a browser can open, found in the URL map and the admin, so that a new one is not forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from uuid import uuid4

from django.contrib import admin
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from authserver.models import Consent, PendingAuthorization
from connections.models import ApiToken, Connection, McpServer, TokenSet
from oauthflow.models import AuthorizationRequest, Webhook, WebhookDelivery

_ADMIN: Final = "admin/"
_API: Final = "api/"
# What clients in browsers have to read, wherever they are served from; none of it looks at cookies. Z09.
READ_EVERYWHERE: Final = (
    ".well-known/", "oauth/client-", "oauth/introspect", "oauth/jwks", "oauth/register", "oauth/revoke", "oauth/token",
)  # fmt: skip
_KINDS: Final = {
    "connection_id": Connection, "request_id": AuthorizationRequest, "token_id": ApiToken,
    "webhook_id": Webhook, "delivery_id": WebhookDelivery, "pending_id": PendingAuthorization, "consent_id": Consent,
}  # fmt: skip


def patterns(found: list[URLPattern | URLResolver] | None = None, *, prefix: str = "") -> Iterator[str]:
    """Yield every route of the site as the map writes it, without those of the admin."""
    for one in get_resolver().url_patterns if found is None else found:
        route = f"{prefix}{one.pattern}"
        if route.startswith(_ADMIN):
            continue
        if isinstance(one, URLResolver):
            yield from patterns(one.url_patterns, prefix=route)
        else:
            yield route


def pages() -> list[str]:
    """Return the routes of the pages, which are not for programs."""
    return sorted({route for route in patterns() if not route.startswith((_API, "graphql"))})


def filled(route: str, **values: object) -> str:
    """Return the address of a route; what is not given stands for something that nobody has."""
    known = {"state": "x" * 43, "name": "search", "uidb64": "MQ", "token": "set-password", "slug": "no-such", **values}
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(known.get(found[1]) or uuid4()), route)


def of_what_there_is(route: str) -> str:
    """Return the address of a route for the first row of each kind in the database."""
    first = {name: model._default_manager.first() for name, model in _KINDS.items()}
    ids = {name: row.pk for name, row in first.items() if row is not None}
    server = Connection.objects.select_related("server").first()
    return filled(route, **ids, slug=server.server.slug if server else "no-such")


def admin_pages() -> list[str]:
    """Return the addresses of the admin: start, lists, forms, and for the first row of each kind its pages."""
    found = [reverse("admin:index")]
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        found += [reverse(f"{name}_changelist"), reverse(f"{name}_add")]
        row = model._default_manager.first()
        if row is not None:
            found += [reverse(f"{name}_{kind}", args=(row.pk,)) for kind in ("change", "history", "delete")]
    return found


def everything() -> list[object]:
    """Return all rows that no stranger may change."""
    rows = (McpServer, TokenSet, *_KINDS.values())
    return [list(model.objects.values()) for model in rows]
