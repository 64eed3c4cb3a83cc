"""The demonstration's Notes server, protected by our authorization server: it asks it about each token."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.upstream import running_program
from tests.product import Product, free_port

_ENTER = """
from authserver.flows.change_resource import enter_resource
from authserver.models import ProtectedResource
words = {{"notes:read": "Read your notes", "notes:write": "Write notes for you", "profile": "Learn your name"}}
resource = ProtectedResource(name="Team notes", resource="{url}", scopes=words)
resource.full_clean()
print(resource.pk, enter_resource(resource, actor=None).reveal())
"""


@contextmanager
def protected_notes(product: Product, folder: Path) -> Iterator[str]:
    """Enter it as a resource and start it with the credentials that it got; the value is its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    client_id, secret = product.run(_ENTER.format(url=url)).split()
    command = [
        sys.executable, "-m", "examples.notes_server", "--port", str(port), "--data", str(folder / "notes"),
        "--issuer", product.url, "--introspection-endpoint", f"{product.url}/oauth/introspect",
        "--introspection-client-id", client_id, "--introspection-cache-seconds", "0",
    ]  # fmt: skip
    ready = f"http://127.0.0.1:{port}/.well-known/oauth-protected-resource/mcp"
    environment = {"PATH": "/usr/bin:/bin", "NOTES_SERVER_SECRET": secret}
    with running_program(command, ready=ready, log=folder / "notes.log", environment=environment):
        yield url
