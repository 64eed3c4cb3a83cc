"""The OpenAPI document, and the page to read and try it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from oauthflow.error_responses import NO_STORE


class _NotKept(APIView):
    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        finished = super().finalize_response(request, response, *args, **kwargs)
        for name, value in NO_STORE.items():
            finished.headers[name] = value
        return finished


class SchemaView(_NotKept, SpectacularAPIView):
    """OpenAPI 3, as YAML or, by `?format=json`, as JSON; for everybody."""


class DocumentationView(_NotKept, SpectacularSwaggerSplitView):
    """Swagger UI from our own static files, its script apart from the page: nothing inline runs, nothing is fetched."""

    url_name = "api:schema"
    template_name = "oauthflow/api_documentation.html"
