"""`python -m examples.notes_server`: read the command line and serve."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import httpx2
import uvicorn

from .introspection import IntrospectionTokenVerifier, Introspector
from .server import auth_settings, sse_app, stdio_server, streamable_http_app
from .store import NoteStore

_PATHS = {"streamable-http": "/mcp", "sse": "/sse"}
_DEMONSTRATION_SECRET = "notes-server-secret"


def main() -> None:
    """Serve until interrupted, or over stdio until its end."""
    options = _options()
    store = NoteStore(options.data / "notes.sqlite3")
    if options.transport == "stdio":
        stdio_server(store).run("stdio")
        return
    issuer = options.issuer.rstrip("/")
    resource = options.resource or f"http://{options.host}:{options.port}{_PATHS[options.transport]}"
    introspector = Introspector(
        endpoint=options.introspection_endpoint or f"{issuer}/introspect",
        issuer=issuer,
        resource=resource,
        cache_seconds=options.introspection_cache_seconds,
    )
    # By environment: the process list shows everybody the command line.
    credentials = (options.introspection_client_id, os.environ.get("NOTES_SERVER_SECRET", _DEMONSTRATION_SECRET))
    token_verifier = IntrospectionTokenVerifier(
        introspector, http=httpx2.AsyncClient(auth=credentials, timeout=5.0, trust_env=False)
    )
    auth = auth_settings(issuer=issuer, resource=resource)
    build = streamable_http_app if options.transport == "streamable-http" else sse_app
    app = build(store, auth=auth, token_verifier=token_verifier, host=options.host)
    print(f"Notes server: {resource}", flush=True)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", access_log=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.notes_server", description=__doc__)
    parser.add_argument("--transport", choices=[*_PATHS, "stdio"], default="streamable-http")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--data", type=Path, default=Path("var/examples"), help="folder of the SQLite file")
    parser.add_argument("--issuer", default="http://127.0.0.1:9000", help="the authorization server")
    parser.add_argument("--resource", help="URL of this server as clients see it; default http://HOST:PORT/mcp or /sse")
    parser.add_argument("--introspection-endpoint", help="default ISSUER/introspect")
    parser.add_argument("--introspection-client-id", default="notes-server", help="secret: NOTES_SERVER_SECRET")
    parser.add_argument("--introspection-cache-seconds", type=float, default=5.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
