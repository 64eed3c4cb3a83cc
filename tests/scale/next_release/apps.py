from __future__ import annotations

from django.apps import AppConfig


class NextReleaseConfig(AppConfig):
    name = "tests.scale.next_release"
    label = "next_release"
