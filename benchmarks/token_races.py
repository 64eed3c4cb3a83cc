"""Fifty programs with one code, fifty with one refresh token: over and over, against two web processes of one site.

A round of codes: 50 redemptions of one code at once, half of them to each process. One may win, nobody may fail.
A round of refresh tokens: 50 uses of one token at once. All have to get the same successor. In every twentieth round
the first process is killed after half of them, and the others ask the second one; in one round the database refuses to
commit, and afterwards the same token has to be good. Ends with an error at the first answer that is wrong.

At the end: how long after a revocation at one process both refuse the access token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import psycopg

from tests.product import free_port

from .database import Database, fresh_database
from .processes import running
from .site import Site, running_site, shell

_FILL = """
import hashlib, json
from base64 import urlsafe_b64encode
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from authserver.flows.issue_code import issue_authorization_code
from authserver.models import (AuthorizationCode, Consent, McpClient, ProtectedResource, TokenFamily,
                               hash_of_secret, new_client_secret)
from authserver.protocol.opaque import hash_of_token, new_refresh_token
now, user = timezone.now(), User.objects.create_user("alice")
program = McpClient.objects.create(client_id="program", grant_types=["authorization_code", "refresh_token"])
consent = Consent.objects.create(user=user, client=program, redirect_uri="https://p.example/cb", scope="read",
                                 resource="https://r.example/mcp", fingerprint="f", granted_at=now)
challenge = urlsafe_b64encode(hashlib.sha256(b"v" * 43).digest()).rstrip(b"=").decode()
said = {"redirect_uri": "https://p.example/cb", "code_challenge": challenge, "now": now}
codes = [issue_authorization_code(consent, **said).reveal() for _ in range(2 * ROUNDS + LAST)]
AuthorizationCode.objects.update(expires_at=now + timedelta(hours=2))
tokens = []
for family in TokenFamily.objects.order_by("pk")[:ROUNDS]:
    token = new_refresh_token(family.pk, marking_key=family.marking_key).reveal()
    TokenFamily.objects.filter(pk=family.pk).update(refresh_hash=hash_of_token(token), generation=1, rotated_at=now)
    AuthorizationCode.objects.filter(pk=family.pk).update(used_at=now)
    tokens.append(token)
secret = new_client_secret()
resource = ProtectedResource.objects.create(name="R", resource="https://r.example/mcp",
                                            secret_hash=hash_of_secret(secret))
unused = set(map(str, AuthorizationCode.objects.filter(used_at=None).values_list("code_hash", flat=True)))
print(json.dumps({"codes": [code for code in codes if hash_of_token(code) in unused], "tokens": tokens,
                  "resource": str(resource.pk), "secret": secret.reveal()}))
"""
_STATE = """
import json
from collections import Counter
from authserver.models import TokenFamily
rows = TokenFamily.objects.values_list("ended_reason", "generation")
print(json.dumps(sorted([reason, generation, count] for (reason, generation), count in Counter(rows).items())))
"""
_REFUSE = {
    "sqlite": ["CREATE TRIGGER refuse AFTER UPDATE ON authserver_tokenfamily BEGIN SELECT RAISE(ROLLBACK, 'no'); END"],
    "postgresql": [
        "CREATE FUNCTION refuse() RETURNS trigger AS 'BEGIN RAISE EXCEPTION ''no''; END' LANGUAGE plpgsql",
        "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON authserver_tokenfamily"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    ],
}
_ALLOW = {
    "sqlite": ["DROP TRIGGER refuse"],
    "postgresql": ["DROP TRIGGER refuse ON authserver_tokenfamily", "DROP FUNCTION refuse"],
}
_LAST = 20
Got = tuple[int, dict[str, object]]


async def post(port: int, form: dict[str, str], path: str = "token") -> Got:
    """Ask an endpoint on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = urlencode(form).encode()
    head = (
        f"POST /oauth/{path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    start, _, content = answer.partition(b"\r\n\r\n")
    return int(start.split(b" ", 2)[1]), json.loads(content or b"{}")


async def together(ports: Sequence[int], form: dict[str, str], count: int) -> list[Got]:
    """Ask that many times at once, the ports in turn."""
    return list(await asyncio.gather(*(post(ports[number % len(ports)], form) for number in range(count))))


def redeem(code: str, ports: Sequence[int], count: int) -> Counter[str]:
    """Play one round of codes."""
    form = {
        "grant_type": "authorization_code", "client_id": "program", "code": code, "code_verifier": "v" * 43,
        "redirect_uri": "https://p.example/cb",
    }  # fmt: skip
    got = asyncio.run(together(ports, form, count))
    found = Counter(str(members.get("error", status)) for status, members in got)
    if found != {"200": 1, "invalid_grant": count - 1} or {status for status, _ in got} != {200, 400}:
        raise SystemExit(f"codes: {found}")
    return found


def same_successor(got: Sequence[Got]) -> None:
    """Check that all were given one and the same pair."""
    pairs = {(members.get("refresh_token"), members.get("access_token")) for _, members in got}
    if len(pairs) != 1 or {status for status, _ in got} != {200}:
        raise SystemExit(f"refresh tokens: {Counter(status for status, _ in got)}, {len(pairs)} different answers")


def main() -> None:
    """Play all rounds on the databases asked for, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--administration", default="postgresql:///postgres")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--parallel", type=int, default=50)
    chosen = parser.parse_args()
    for kind in chosen.database or ["sqlite"]:
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            folder = Path(name)
            database = stack.enter_context(fresh_database(kind, folder=folder, administration=chosen.administration))
            fill = _FILL.replace("ROUNDS", str(chosen.rounds)).replace("LAST", str(_LAST))
            site = stack.enter_context(running_site(database, folder=folder, fill=fill, CLIENT_REFUSALS_A_MINUTE="0"))
            _play(site, database, folder, rounds=chosen.rounds, parallel=chosen.parallel)


def _play(site: Site, database: Database, folder: Path, *, rounds: int, parallel: int) -> None:
    second = Second(site, folder)
    try:
        for code in site.filled["codes"][:rounds]:
            redeem(code, (second.port, site.port), parallel)
        print(f"{database.kind}: {rounds} rounds of {parallel} redemptions: 1 winner each, no 5xx")
        kills = 0
        for number, token in enumerate(site.filled["tokens"]):
            form = {"grant_type": "refresh_token", "client_id": "program", "refresh_token": token}
            if number == rounds // 2:
                _refused_once(database, form, (second.port, site.port), parallel)
            if number % 20:
                same_successor(asyncio.run(together((second.port, site.port), form, parallel)))
                continue
            half = asyncio.run(together((second.port,), form, parallel // 2))
            second.kill()
            same_successor(half + asyncio.run(together((site.port,), form, parallel - parallel // 2)))
            second.start()
            kills += 1
        print(
            f"{database.kind}: {rounds} rounds of {parallel} uses of one refresh token, {kills} kills in the middle,"
            " 1 refused commit: one successor each"
        )
        delays = sorted(
            asyncio.run(_seconds_until_refused(site, (second.port, site.port), code))
            for code in site.filled["codes"][rounds:]
        )
        middle = delays[len(delays) // 2]
        print(
            f"{database.kind}: revoked to refused by both: {middle:.2f} s, at most {delays[-1]:.2f} s, of {len(delays)}"
        )
    finally:
        second.stop()
    state = json.loads(shell(_STATE, environment=site.environment))
    if state != [["", 2, rounds], ["code_replayed", 1, rounds], ["revoked_by_client", 1, _LAST]]:
        raise SystemExit(f"families: {state}")
    print(f"{database.kind}: every family that was only refreshed lives, in its second generation; the others ended")


async def _seconds_until_refused(site: Site, ports: Sequence[int], code: str) -> float:
    """Redeem a code, make both processes see its access token, revoke it, and ask both until both refuse."""
    form = {
        "grant_type": "authorization_code", "client_id": "program", "code": code, "code_verifier": "v" * 43,
        "redirect_uri": "https://p.example/cb",
    }  # fmt: skip
    token = str((await post(ports[0], form))[1]["access_token"])
    question = {"token": token, "client_id": site.filled["resource"], "client_secret": site.filled["secret"]}

    async def is_active(port: int) -> bool:
        return bool((await post(port, question, "introspect"))[1]["active"])

    if not all([await is_active(port) for port in ports]):
        raise SystemExit("a fresh token is not active")
    await post(ports[0], {"token": token, "client_id": "program"}, "revoke")
    revoked_at = time.monotonic()
    waiting = list(ports)
    while waiting:
        waiting = [port for port in waiting if await is_active(port)]
        await asyncio.sleep(0.01)
    return time.monotonic() - revoked_at


class Second:
    """Another web process of the same site."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._site, self._folder = site, folder
        self.start()

    def start(self) -> None:
        """Start it, on a new port."""
        self.port = free_port()
        command = [sys.executable, "-m", "mcp_oauth_site.serve", "--port", str(self.port)]
        self._stack = ExitStack()
        self._process = self._stack.enter_context(
            running(
                command,
                environment=self._site.environment,
                log=self._folder / "second.log",
                ready=f"http://localhost:{self.port}/healthz",
            )
        )

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self._process.kill()
        self.stop()

    def stop(self) -> None:
        """End it."""
        self._stack.close()


def _refused_once(database: Database, form: dict[str, str], ports: Sequence[int], parallel: int) -> None:
    """Let the database refuse to commit: nobody gets anything, and nothing is used up."""
    _execute(database, _REFUSE[database.kind])
    try:
        got = asyncio.run(together(ports, form, parallel))
    finally:
        _execute(database, _ALLOW[database.kind])
    if {status for status, _ in got} != {503}:
        raise SystemExit(f"with a refused commit: {Counter(status for status, _ in got)}")


def _execute(database: Database, statements: Sequence[str]) -> None:
    if database.kind == "sqlite":
        lite = sqlite3.connect(database.url.removeprefix("sqlite:///"), isolation_level=None, timeout=30)
        for statement in statements:
            lite.execute(statement)
        lite.close()
        return
    with psycopg.connect(database.url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


if __name__ == "__main__":
    main()
