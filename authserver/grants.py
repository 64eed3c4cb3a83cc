"""What a person allowed which program, for My connections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.db.models import OuterRef
from django.urls import reverse

from oauthflow.acting_programs import ActingProgram
from oauthflow.protocol.scopes import OFFLINE_ACCESS

from .flows.reuse import REUSED
from .models import Consent, McpClient, TokenFamily
from .protocol.redirect_uri import shown_host
from .resources import find_resource

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def programs_of(user: User) -> list[ActingProgram]:
    """Return the grants of a person that stand."""
    newest = TokenFamily.objects.filter(consent=OuterRef("pk")).order_by("-issued_at")
    standing = Consent.objects.standing().filter(user=user).select_related("client")
    told = standing.annotate(ended_at=newest.values("ended_at")[:1], ended_reason=newest.values("ended_reason")[:1])
    return [_shown(consent) for consent in told]


def names_of(client_ids: Iterable[str]) -> dict[str, str]:
    """Return what clients call themselves, by their ids."""
    return dict(McpClient.objects.filter(client_id__in=client_ids).values_list("client_id", "name"))


def _shown(consent: Any) -> ActingProgram:
    resource = find_resource(consent.resource)
    words = dict(resource.scopes) if resource else {}
    return ActingProgram(
        name=consent.client.name or "A program without a name",
        host=shown_host(consent.redirect_uri),
        is_verified=consent.client.verified,
        uses=resource.name if resource else consent.resource,
        may=tuple(words.get(scope, scope) for scope in consent.scope.split() if scope != OFFLINE_ACCESS),
        since=consent.granted_at,
        last_used_at=consent.last_used_at,
        revoke_url=reverse("authserver:revoke_grant", args=(consent.pk,)),
        ended_at=consent.ended_at if consent.ended_reason in REUSED else None,
    )
