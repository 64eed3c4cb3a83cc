"""The authorization server's endpoints as targets of a load generator: a client, refresh tokens, a token to ask about.

Prints one line of JSON, a list of targets (name, kind, url, form, headers, refresh_tokens, token, pids), and goes on
until it is ended.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import threading
from base64 import b64encode
from pathlib import Path
from typing import Any

from .database import fresh_database
from .site import Site, running_site

_FILL = """
import json, os, uuid
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from authserver.flows.issue_code import subject_of
from authserver.models import (Consent, McpClient, ProtectedResource, ServiceAccount, TokenFamily, fingerprint_of,
                               hash_of_secret, new_client_secret)
from authserver.protocol.opaque import hash_of_token, new_marking_key, new_refresh_token
from authserver.tokens import mint_access_token, new_jti
now, user = timezone.now(), User.objects.create_user("alice")
secret, resource_secret = new_client_secret(), new_client_secret()
resource = ProtectedResource.objects.create(name="R", resource="https://r.example/mcp", scopes={"read": "Read"},
                                            secret_hash=hash_of_secret(resource_secret))
service = McpClient.objects.create(client_id="service", token_endpoint_auth_method="client_secret_post",
                                   client_secret_hash=hash_of_secret(secret), grant_types=["client_credentials"])
ServiceAccount.objects.create(client=service, user=user, resources=[resource.resource])
program = McpClient.objects.create(client_id="program", grant_types=["authorization_code", "refresh_token"])
consent = Consent.objects.create(user=user, client=program, redirect_uri="https://p.example/cb", scope="read",
                                 resource=resource.resource, fingerprint="f", granted_at=now)
families, tokens, subject = [], [], subject_of(user)
for number in range(SEEDS):
    key, pk = new_marking_key(), uuid.uuid4()
    token = new_refresh_token(pk, marking_key=key).reveal()
    tokens.append(token)
    families.append(TokenFamily(id=pk, client=program, user=user, consent=consent, subject=subject, scope="read",
                                resource=resource.resource, is_refreshable=True, issued_at=now, generation=1,
                                expires_at=now + timedelta(days=90), marking_key=key,
                                refresh_hash=hash_of_token(token)))
TokenFamily.objects.bulk_create(families, batch_size=100)
probe = mint_access_token(subject=subject, client_id="program", audience=resource.resource, scope="read",
                          jti=new_jti(families[0].pk, os.urandom(16)), issued_at=int(now.timestamp()), seconds=3600)
print(json.dumps({"secret": secret.reveal(), "refresh_tokens": tokens, "probe": probe, "resource": str(resource.pk),
                  "resource_secret": resource_secret.reveal()}))
"""


def targets(site: Site) -> list[dict[str, Any]]:
    """Return the three kinds of requests, each complete."""
    base, filled = f"http://127.0.0.1:{site.port}/oauth", site.filled
    asks = b64encode(f"{filled['resource']}:{filled['resource_secret']}".encode()).decode()
    service = {"client_id": "service", "client_secret": filled["secret"]}
    found = [
        {"name": "ours-cc", "kind": "client_credentials", "url": f"{base}/token", "form": service},
        {
            "name": "ours-refresh",
            "kind": "refresh",
            "url": f"{base}/token",
            "form": {"client_id": "program"},
            "refresh_tokens": filled["refresh_tokens"],
        },
        {
            "name": "ours-introspect",
            "kind": "introspect",
            "url": f"{base}/introspect",
            "token": filled["probe"],
            "headers": {"Authorization": f"Basic {asks}"},
        },
    ]
    return [{**target, "pids": [site.pid]} for target in found]


def main() -> None:
    """Run until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--administration", default="postgresql:///postgres", help="for --database postgresql")
    parser.add_argument("--seeds", type=int, default=600, help="refresh tokens: one for each connection of every round")
    chosen = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill = _FILL.replace("SEEDS", str(chosen.seeds))
        with (
            fresh_database(chosen.database, folder=folder, administration=chosen.administration) as database,
            running_site(database, folder=folder, fill=fill, CLIENT_REFUSALS_A_MINUTE="0") as site,
        ):
            print(json.dumps(targets(site)), flush=True)
            ended.wait()


if __name__ == "__main__":
    main()
