"""Every address that a browser can open, found in the URL map and the admin, so that a new one is not forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from django.contrib import admin
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from connections.models import ApiToken, Connection, McpServer, TokenSet
from oauthflow.models import AuthorizationRequest

_ADMIN: Final = "admin/"
_API: Final = "api/"


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


def filled(route: str, *, connection: object, slug: str, request: object, token: object) -> str:
    """Return the address of a route that speaks of these."""
    values = {
        "<uuid:connection_id>": connection, "<str:connection_id>": connection, "<slug:slug>": slug,
        "<uuid:request_id>": request, "<uuid:token_id>": token, "<str:state>": "x" * 43, "<path:name>": "search",
        "<uidb64>": "MQ", "<token>": "set-password",
    }  # fmt: skip
    for name, value in values.items():
        route = route.replace(name, str(value))
    return f"/{route}"


def of_what_there_is(route: str) -> str:
    """Return the address of a route for the first connection, attempt and token in the database."""
    connection = Connection.objects.select_related("server").first()
    assert connection is not None
    request, token = AuthorizationRequest.objects.first(), ApiToken.objects.first()
    return filled(
        route,
        connection=connection.pk,
        slug=connection.server.slug,
        request=request.pk if request else connection.pk,
        token=token.pk if token else connection.pk,
    )


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
    rows = (McpServer, Connection, TokenSet, AuthorizationRequest, ApiToken)
    return [list(model.objects.values()) for model in rows]
