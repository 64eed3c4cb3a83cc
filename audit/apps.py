from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AuditConfig(AppConfig):
    name = "audit"

    def ready(self) -> None:
        from .failed_logins import connect_receiver
        from .guard import restore_after_migrations

        connect_receiver()
        post_migrate.connect(restore_after_migrations, sender=self, dispatch_uid="audit guard")
