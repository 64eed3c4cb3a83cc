from __future__ import annotations

from django.apps import AppConfig


class GatewayConfig(AppConfig):
    name = "gateway"
    verbose_name = "Gateway"

    def ready(self) -> None:
        from . import checks  # registers them
        from .policies.changes import connect_receivers

        del checks
        connect_receivers()
