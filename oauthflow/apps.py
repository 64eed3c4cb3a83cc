from __future__ import annotations

from django.apps import AppConfig


class OauthflowConfig(AppConfig):
    name = "oauthflow"
