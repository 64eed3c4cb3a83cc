"""The ASGI application of the whole site."""

from __future__ import annotations

import os
import sys
from typing import Any

import django
from django.core.exceptions import ImproperlyConfigured


def _application() -> Any:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mcp_oauth_site.settings")
    try:
        django.setup()
    except ImproperlyConfigured as error:
        sys.exit(f"error: {error}")
    from .body_limit import limit_bodies
    from .observability.spans import send_spans
    from .root import build_application

    send_spans()

    return limit_bodies(build_application())


application = _application()
