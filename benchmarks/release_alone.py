"""Release tokens while authorization server, Redis and broker are all down: nobody may notice. R7.

    python -m benchmarks.release_alone [--database sqlite] [--database postgresql --administration URL]
        [--count 1000] [--callers 16]

The web process of a site that is told of a Redis where nobody listens. Half of the tokens are due for a refresh, which
is tried, fails and is paused; all of them still work, and each call must release its own.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from tests.product import free_port

from .database import Database, on_each
from .load import drive, post
from .refresher import require
from .site import running_site

_CONNECTIONS = 100
_FILL = """
import json
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from connections.api_tokens import issue_api_token
from connections.models import McpServer, TokenSet
from tests.chaos.grants import make_grants
now = timezone.now()
user = User.objects.create_user("alice")
made = make_grants("http://127.0.0.1:{port}", [f"{{n}}" for n in range({count})], now=now, issuers=5)
McpServer.objects.update(connection_policy="shared")
TokenSet.objects.update(expires_at=now + timedelta(days=1), refresh_due_at=now + timedelta(hours=12))
TokenSet.objects.filter(connection__in=made[::2]).update(expires_at=now + timedelta(minutes=4))
token = issue_api_token(user, scopes=["tokens:release"], name="benchmark", now=now).token.reveal()
print(json.dumps({{"token": token, "connections": [str(one.pk) for one in made]}}))
"""


def main() -> None:
    """Measure each database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--callers", type=int, default=16)
    on_each(_measure, parser)


def _measure(database: Database, folder: Path, options: argparse.Namespace) -> None:
    fill = _FILL.format(port=free_port(), count=_CONNECTIONS)
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    with running_site(database, folder=folder, fill=fill, EGRESS_ALLOW="127.0.0.1", REDIS_URL=nobody) as site:
        headers = {"Authorization": f"Bearer {site.filled['token']}"}
        calls = [
            post(
                f"http://localhost:{site.port}/api/v1/connections/{pk}/token",
                headers=headers,
                expected=f'"at-{number}-0"',
            )
            for number, pk in enumerate(site.filled["connections"])
        ]
        outcome = drive(site.port, calls, connections=options.callers, count=options.count)
    require(len(outcome.latencies) + len(outcome.bad) == options.count, "calls without an outcome")
    print(
        f"{database.kind}: {options.count} releases by {options.callers} callers without upstream, Redis and broker:"
        f" {len(outcome.bad)} errors; p50 {statistics.median(outcome.latencies) * 1000:.1f} ms,"
        f" slowest {max(outcome.latencies) * 1000:.0f} ms {outcome.bad[:3] or ''}"
    )


if __name__ == "__main__":
    main()
