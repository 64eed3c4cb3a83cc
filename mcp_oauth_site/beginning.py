"""How a process that serves begins: with settings that can be read."""

from __future__ import annotations

import os
import sys

import django
from django.core.exceptions import ImproperlyConfigured


def set_up() -> None:
    """Set Django up, or end with one line that says what is wrong with the settings."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mcp_oauth_site.settings")
    try:
        django.setup()
    except ImproperlyConfigured as error:
        sys.exit(f"error: {error}")
    from .observability.spans import send_spans

    send_spans()
