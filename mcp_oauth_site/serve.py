"""The web process: uvicorn with the options this site needs. `manage.py up` starts it."""

from __future__ import annotations

import argparse
from typing import Any, Final

import uvicorn

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
    uvicorn.run(application, host=options.host, port=options.port, workers=options.workers, **OPTIONS)


if __name__ == "__main__":
    main()
