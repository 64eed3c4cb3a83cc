from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class ConnectionsConfig(AppConfig):
    name = "connections"
    verbose_name = "MCP"

    def ready(self) -> None:
        import_module("connections.checks")
        import_module("connections.deletions").connect_receivers()
