from __future__ import annotations

from django.apps import AppConfig


class OauthflowConfig(AppConfig):
    name = "oauthflow"
    verbose_name = "Sign-ins"
