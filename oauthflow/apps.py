from __future__ import annotations

from django.apps import AppConfig


class OauthflowConfig(AppConfig):
    name = "oauthflow"
    verbose_name = "Sign-ins"

    def ready(self) -> None:
        from audit.listeners import APPENDED

        from .events import tell_appended

        APPENDED.connect(tell_appended, dispatch_uid="oauthflow.events")
