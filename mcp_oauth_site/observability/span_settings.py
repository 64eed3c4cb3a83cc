"""Whether spans are sent, decided before Django starts."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from django.core.exceptions import ImproperlyConfigured

from ..env import Environment, parts_of

_NAME: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_NEEDED: Final = ("opentelemetry.sdk", "opentelemetry.exporter")


def spans_endpoint(environment: Environment) -> str:
    """Return the address of the collector, or an empty text.

    Raises:
        ImproperlyConfigured: It is no address, or the packages of the extra `otel` are not installed.
    """
    text = environment.text(_NAME)
    if not text:
        return ""
    parts = parts_of(_NAME, text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ImproperlyConfigured(f"{_NAME} must be an http or https address without user and password.")
    if not all(find_spec(name) for name in _NEEDED):
        raise ImproperlyConfigured(
            f"{_NAME} is set, but the packages that send spans are not installed:"
            " `pip install --require-hashes -r requirements-otel.lock`, or unset it."
        )
    return text
