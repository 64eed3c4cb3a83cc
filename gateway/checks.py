"""System checks of the gateway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from .conf import gateway_configuration


@register("gateway")
def check_authorization_server(app_configs: Sequence[Any] | None, **kwargs: object) -> list[CheckMessage]:
    """The gateway names our authorization server in its metadata. RFC 9728 §2, D-02."""
    if apps.is_installed("authserver"):
        return []
    return [Error("The gateway needs the app authserver.", hint="Install both or neither.", id="gateway.E001")]


@register("gateway")
def check_configuration(app_configs: Sequence[Any] | None, **kwargs: object) -> list[CheckMessage]:
    """`GATEWAY` has only names and numbers that mean something."""
    try:
        gateway_configuration()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="gateway.E002")]
    return []
