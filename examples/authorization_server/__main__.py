"""`python -m examples.authorization_server`: read the command line and serve."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import uvicorn

from .app import create_app
from .configuration import RESOURCE_SERVER_SECRET, Configuration

_OUR_CALLBACK = "http://localhost:8000/api/v1/oauth/callback"


def main() -> None:
    """Serve until interrupted."""
    options = _options()
    issuer = (options.issuer or f"http://{options.host}:{options.port}").rstrip("/")
    configuration = Configuration(
        issuer=issuer,
        data_dir=options.data,
        redirect_uris=tuple(options.client_redirect_uri or [_OUR_CALLBACK]),
        resources=tuple(options.resource),
        access_token_seconds=options.access_token_seconds,
        resource_server_secret=os.environ.get("NOTES_SERVER_SECRET", RESOURCE_SERVER_SECRET),
    )
    print(f"Authorization server: {issuer} (testuser / testpass)", flush=True)
    # No access log: request lines would show `state` and other things that are nobody's business.
    uvicorn.run(create_app(configuration), host=options.host, port=options.port, log_level="warning", access_log=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.authorization_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--data", type=Path, default=Path("var/examples"), help="folder of the SQLite file")
    parser.add_argument("--issuer", help="its URL as clients see it; default http://HOST:PORT")
    parser.add_argument("--access-token-seconds", type=int, default=60)
    parser.add_argument("--client-redirect-uri", action="append", help="of mcp-test-client; may be repeated")
    parser.add_argument("--resource", action="append", default=[], help="tokens are for these only; may be repeated")
    return parser.parse_args()


if __name__ == "__main__":
    main()
