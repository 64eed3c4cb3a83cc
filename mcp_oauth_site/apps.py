from __future__ import annotations

from django.apps import AppConfig

from .logs import configure_structlog


class SiteConfig(AppConfig):
    name = "mcp_oauth_site"

    def ready(self) -> None:
        from .observability.receivers import connect_receivers

        configure_structlog()
        connect_receivers()
