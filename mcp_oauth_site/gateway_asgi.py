"""The ASGI application of a process that serves the gateway alone."""

from __future__ import annotations

from typing import Any

from .beginning import set_up


def _application() -> Any:
    set_up()
    from .root import build_gateway

    return build_gateway()


application = _application()
