"""The web process: uvicorn with the options this site needs. `manage.py up` starts it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from .bounded_http import BoundedHttpProtocol

OPTIONS: Final[dict[str, Any]] = {
    "loop": "uvloop",
    "http": BoundedHttpProtocol,
    "lifespan": "on",
    # The site writes its own line per request, without addresses; and it decides itself which proxies it trusts.
    "access_log": False,
    "log_config": None,
    "proxy_headers": False,
    "server_header": False,
    "timeout_graceful_shutdown": 8,
}


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--gateway", action="store_true", help="serve /mcp/ and nothing else")
    options = parser.parse_args()
    application = f"mcp_oauth_site.{'gateway_asgi' if options.gateway else 'asgi'}:application"
    if options.workers > 1:
        uvicorn.run(application, host=options.host, port=options.port, workers=options.workers, **OPTIONS)
        return
    server = QuietServer(uvicorn.Config(application, host=options.host, port=options.port, **OPTIONS))
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


class QuietServer(uvicorn.Server):
    """Wakes once a second, for the `Date` header, and when it is told to stop; uvicorn's own ten times a second."""

    _wake: Callable[[], object] = staticmethod(lambda: None)

    async def main_loop(self) -> None:
        """Serve until told to stop."""
        told = asyncio.Event()
        self._wake = partial(asyncio.get_running_loop().call_soon_threadsafe, told.set)
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), 1.0)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal, in whose handler this runs."""
        super().handle_exit(sig, frame)
        self._wake()


if __name__ == "__main__":
    main()
