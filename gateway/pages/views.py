"""The page on which people read how their programs reach a server behind the gateway."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render

from authserver.resources import gateway_resource
from connections.models import McpServer
from oauthflow.protocol.urls import parse_http_url
from oauthflow.views.cards import server_card
from oauthflow.views.signed_in import SignedInRequest, signed_in

from ..endpoint.metadata import metadata_url
from ..models import InboundTrust
from .snippets import snippets


@signed_in("GET", "HEAD")
def server(request: SignedInRequest, slug: str) -> HttpResponse:
    """Show the gateway address of a server that this person may use, and what to enter in each program."""
    served = McpServer.objects.usable_by(request.user).filter(gateway_enabled=True)
    found = get_object_or_404(served.exclude(transport=McpServer.Transport.STDIO), slug=slug)
    trust = InboundTrust.objects.filter(server=found).first()
    url, api_tokens = gateway_resource(found.slug), trust is not None and trust.allow_api_tokens
    context = {
        "server": found,
        "card": server_card(found, user=request.user),
        "url": url,
        "signs_in_at": parse_http_url(trust.issuer).host if trust is not None and trust.is_external else "",
        "api_tokens": api_tokens,
        "snippets": list(snippets(found.slug, url, metadata_url=metadata_url(found.slug), api_tokens=api_tokens)),
    }
    return render(request, "gateway/server.html", context)
