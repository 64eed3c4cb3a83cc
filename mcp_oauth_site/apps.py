from __future__ import annotations

from django.apps import AppConfig

from .logs import configure_structlog


class SiteConfig(AppConfig):
    name = "mcp_oauth_site"

    def ready(self) -> None:
        from connections.sealed_stores import register_store

        from . import one_machine as one_machine
        from .observability.receivers import connect_receivers
        from .sign_in.second_factors import SecondFactorStore

        configure_structlog()
        connect_receivers()
        register_store(SecondFactorStore())
