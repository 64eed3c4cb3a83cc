"""Start the whole site in one terminal."""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from mcp_oauth_site.env import is_loopback
from mcp_oauth_site.observability.folders import VARIABLE as METRICS_FOLDER
from mcp_oauth_site.observability.folders import claim_folder
from mcp_oauth_site.observability.listener import listen
from mcp_oauth_site.startup import first_administrator_link, prepare_site
from mcp_oauth_site.supervise import Child, Supervisor, accepts_connections, port_is_free

ROLES: Final = ("web", "gateway", "worker", "beat")
WORKER_STOP_SECONDS: Final = 70.0
"""More than a lease of a refresh: the answers under way, each of which may be the only valid token, are kept first."""
_ONE_MACHINE: Final = (
    "The database is a SQLite file of this machine: the other roles must run here too. For more than one machine set"
    " DATABASE_URL to a PostgreSQL database."
)


class Command(BaseCommand):
    """Subclasses add processes and words; see `extra_children` and `announce`."""

    help = "Prepare the database and run web, worker and beat; Ctrl-C stops all."
    requires_system_checks = "__all__"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
        parser.add_argument("--port", type=int, help="port to listen on (default: the one of PUBLIC_URL, or 8000)")
        parser.add_argument("--workers", type=int, default=1, help="processes that answer (default 1)")
        parser.add_argument(
            "--only",
            choices=ROLES,
            help="run one role, to spread them over machines; gateway is /mcp/ and nothing else",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        host, only = options["host"], options["only"]
        port = _default_port() if options["port"] is None else options["port"]
        if not 0 < port < 65_536:
            raise CommandError("--port needs a number from 1 to 65535.")
        if options["workers"] < 1:
            raise CommandError("--workers needs a number of processes, 1 or more.")
        if settings.DEBUG and not is_loopback(host):
            raise CommandError("DEBUG must not be on when listening beyond this machine.")
        if only in {None, "web", "gateway"} and not port_is_free(host, port):
            raise CommandError(
                f"Port {port} of {host} is in use or not an address of this machine; choose others with --port, --host."
            )
        if only != "gateway":  # its port is not the one by which the site is known
            _follow_port(port)
        if only and settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
            self.stderr.write(self.style.WARNING(_ONE_MACHINE))
        self.stdout.write("Preparing the database and files …")
        try:
            prepare_site()
        except DatabaseError as error:
            raise CommandError("DATABASE_URL names a database that cannot be used or migrated.") from error
        self.before_start()
        folder = str(claim_folder(settings.DATA_DIR / "metrics", role=only or "all"))
        os.environ[METRICS_FOLDER] = folder
        children = [*self.extra_children(), *_children(host, port, workers=options["workers"], only=only)]
        supervisor = Supervisor(children)
        if settings.METRICS_PORT and only in {"gateway", "worker", "beat"}:
            _listen(host, folder=folder, supervisor=supervisor)
        supervisor.run(on_tick=self._once_listening(host, port) if only in {None, "web"} else lambda: None)
        self.stdout.write("Stopped.")

    def before_start(self) -> None:
        """Do what must be done after the migrations and before the first process."""

    def extra_children(self) -> list[Child]:
        """Return further processes to run."""
        return []

    def announce(self) -> None:
        """Say where to go, once the site answers."""
        self.stdout.write(self.style.SUCCESS(f"\nReady: {settings.PUBLIC_URL}/") + "   (Ctrl-C stops)")
        if link := first_administrator_link():
            self.stdout.write(f"Choose the password of the first administrator, admin, within a day:\n  {link}")

    def _once_listening(self, host: str, port: int) -> Any:
        told: list[bool] = []

        def look() -> None:
            if not told and accepts_connections(_reachable(host), port):
                told.append(True)
                self.announce()
                self.stdout.flush()

        return look


def _children(host: str, port: int, *, workers: int, only: str | None) -> list[Child]:
    python = sys.executable
    celery = [python, "-m", "celery", "--quiet", "-A", "mcp_oauth_site.celery"]
    serve = [python, "-m", "mcp_oauth_site.serve", "--host", host, "--port", str(port), "--workers", str(workers)]
    web, beat = Child("web", serve), Child("beat", [*celery, "beat", "--loglevel", "INFO"])
    worker = [*celery, "worker", "--loglevel", "INFO", "--concurrency", "4", "--without-gossip", "--without-mingle"]
    if not settings.REDIS_URL:
        worker += ["--pool", "threads"]
        if only is None:
            return [web, Child("worker", [*worker, "--beat"], stop_seconds=WORKER_STOP_SECONDS)]
    together = {"web": web, "worker": Child("worker", worker, stop_seconds=WORKER_STOP_SECONDS), "beat": beat}
    roles = {**together, "gateway": Child("gateway", [*serve, "--gateway"])}
    return list(together.values()) if only is None else [roles[only]]


def _listen(host: str, *, folder: str, supervisor: Supervisor) -> None:
    try:
        listen(host, settings.METRICS_PORT, folder=folder, is_healthy=supervisor.all_running)
    except OSError as error:
        raise CommandError(f"METRICS_PORT {settings.METRICS_PORT} is in use.") from error


def _default_port() -> int:
    parts = urlsplit(settings.PUBLIC_URL)
    return parts.port or 8000 if is_loopback(parts.hostname or "") else 8000


def _follow_port(port: int) -> None:
    """Begin again with a PUBLIC_URL that names the port, where nobody chose one."""
    if not os.environ.get("PUBLIC_URL") and urlsplit(settings.PUBLIC_URL).port != port:
        os.environ["PUBLIC_URL"] = f"http://localhost:{port}"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _reachable(host: str) -> str:
    """Return an address under which a server that listens on `host` can be reached from here."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return host if not address.is_unspecified else "127.0.0.1" if address.version == 4 else "::1"
