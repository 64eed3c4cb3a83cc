"""The ASGI application of the whole site."""

from __future__ import annotations

from typing import Any

from .beginning import set_up


def _application() -> Any:
    set_up()
    from .root import build_application

    return build_application()


application = _application()
