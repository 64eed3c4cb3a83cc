from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import pre_delete


class OauthflowConfig(AppConfig):
    name = "oauthflow"
    verbose_name = "Sign-ins"

    def ready(self) -> None:
        from audit.listeners import APPENDED
        from connections.sealed_stores import register_store

        from .events import tell_appended
        from .flows.held_grant import give_back_deleted
        from .flows.refresh.sealed_spool import SealedSpool

        APPENDED.connect(tell_appended, dispatch_uid="oauthflow.events")
        register_store(SealedSpool())

        # Another account's tokens that wait for a decision go with their request, and must not stay good elsewhere.
        pre_delete.connect(
            give_back_deleted, sender="oauthflow.AuthorizationRequest", dispatch_uid="oauthflow.held_grant"
        )
