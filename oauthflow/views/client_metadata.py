"""What authorization servers read about us."""

from __future__ import annotations

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from oauthflow.conf import configuration, metadata_document_url, redirect_uri, served_from_web
from oauthflow.protocol.client_metadata import client_metadata_document

_PUBLIC_KEY_MEMBERS = ("kty", "crv", "x", "y", "kid", "alg", "use")


@require_safe
@cache_control(public=True, max_age=3600)
def client_metadata(request: HttpRequest) -> HttpResponse:
    """Serve our Client ID Metadata Document where this site has an https address to serve it from. R-05, R-06."""
    client_id = metadata_document_url()
    if client_id is None:
        raise Http404
    document = client_metadata_document(
        client_id=client_id,
        client_name=configuration().client_name,
        redirect_uri=redirect_uri(),
        # Nobody else can open a site on localhost, and servers refuse a document with such an address.
        client_uri=settings.PUBLIC_URL if served_from_web() else "",
        web=served_from_web(),
    )
    return _public(JsonResponse(document))


@require_safe
@cache_control(public=True, max_age=3600)
def client_jwks(request: HttpRequest) -> HttpResponse:
    """Serve the public halves of the keys that sign our assertions. RFC 7517 §5, RFC 7523 §3."""
    keys = [{name: key[name] for name in _PUBLIC_KEY_MEMBERS if name in key} for key in settings.SIGNING_KEYS]
    return _public(JsonResponse({"keys": keys}))


def _public(response: HttpResponse) -> HttpResponse:
    """Any origin may read it, without credentials. Z09."""
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response
