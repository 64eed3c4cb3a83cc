from __future__ import annotations

from django.apps import AppConfig


class AuthserverConfig(AppConfig):
    name = "authserver"
    verbose_name = "Authorization server"

    def ready(self) -> None:
        from .changes import connect_receivers

        connect_receivers()
