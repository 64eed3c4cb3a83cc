"""The reference: the same endpoint as one would write it in Django REST framework, and nothing else.

A DRF view with token authentication, the ORM and Fernet; Django's usual middleware; kept database connections. It is
served by threads that parse HTTP in C (one thread for each connection, at most four of them in the application), which
costs less CPU than gunicorn's threads. It checks neither scopes nor who may use a server, refreshes nothing and, unless
asked to, records nothing. `--record row` inserts a plain row for each release; `--record chain` appends to our own
chained audit record, durably, before it answers.

    python -m benchmarks.plain_drf PORT DATABASE_URL [--record row|chain]

Prints one line of JSON, {"token": …, "connections": [ids]}, and serves.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
import httptools
from cryptography.fernet import Fernet
from django.conf import settings

from mcp_oauth_site.env import Environment

_THREADS_IN_THE_APPLICATION = 4
_KEY = Fernet.generate_key()


def main() -> None:
    """Make the tables and 100 connections, then serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("database")
    parser.add_argument("--record", choices=("row", "chain"), default="")
    options = parser.parse_args()
    _configure(options.database, record=options.record)
    print(json.dumps(_fill()), flush=True)
    _serve(options.port)


def _configure(database: str, *, record: str) -> None:
    os.environ["BENCHMARK_KEY"], os.environ["BENCHMARK_RECORD"] = _KEY.decode(), record
    chosen = Environment({"DATABASE_URL": database}).database("DATABASE_URL", sqlite_file=Path("unused"))
    chosen["CONN_MAX_AGE"] = None
    chosen["OPTIONS"].pop("pool", None)
    if record == "chain" and "init_command" in chosen["OPTIONS"]:
        chosen["OPTIONS"]["init_command"] += "PRAGMA synchronous=FULL;"  # as for our own releases
    settings.configure(
        SECRET_KEY="x" * 50,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="benchmarks.plain_endpoint",
        LOGGING_CONFIG=None,
        USE_TZ=True,
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware", "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        INSTALLED_APPS=[
            "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "rest_framework",
            "rest_framework.authtoken", "audit",
        ],
        DATABASES={"default": chosen},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        AUDIT_KEYS=["0" * 64],
        AUDIT_HEAD_FILE=None,
    )  # fmt: skip
    django.setup()


def _fill() -> dict[str, Any]:
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection
    from django.utils import timezone
    from rest_framework.authtoken.models import Token

    from benchmarks.plain_endpoint import Connection, Release

    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(Connection)
        editor.create_model(Release)
    user = User.objects.create(username="alice")
    box, later = Fernet(_KEY), timezone.now() + timedelta(days=1)
    rows = [
        Connection.objects.create(user=user, access_token=box.encrypt(f"upstream-{n}".encode()), expires_at=later)
        for n in range(100)
    ]
    connection.close()
    return {"token": Token.objects.create(user=user).key, "connections": [row.pk for row in rows]}


def _serve(port: int) -> None:
    from django.core.wsgi import get_wsgi_application

    application, gate = get_wsgi_application(), threading.Semaphore(_THREADS_IN_THE_APPLICATION)
    listener = socket.create_server(("127.0.0.1", port), backlog=256)
    while True:
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_Connection(accepted, application, gate).run, daemon=True).start()


class _Connection:
    """One kept connection of one caller."""

    def __init__(self, accepted: socket.socket, application: Any, gate: threading.Semaphore) -> None:
        self._socket, self._application, self._gate = accepted, application, gate
        self._environ: dict[str, Any] = {}
        self._status, self._headers = "", [("", "")]

    def run(self) -> None:
        """Answer until the caller hangs up."""
        from django.db import connections

        parser = httptools.HttpRequestParser(self)
        while data := self._socket.recv(65536):
            parser.feed_data(data)
        self._socket.close()
        connections.close_all()

    def on_url(self, url: bytes) -> None:
        self._environ = {
            "REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": url.decode("latin-1"), "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": None, "wsgi.multithread": True,
            "wsgi.multiprocess": False, "wsgi.run_once": False,
        }  # fmt: skip

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").upper().replace("-", "_")
        self._environ[key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{key}"] = value.decode("latin-1")

    def on_message_complete(self) -> None:
        with self._gate:
            answer = self._application(self._environ, self._begin)
            body = b"".join(answer)
            answer.close()
        head = "".join(f"{name}: {value}\r\n" for name, value in self._headers)
        self._socket.sendall(f"HTTP/1.1 {self._status}\r\n{head}\r\n".encode("latin-1") + body)

    def _begin(self, status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
        self._status, self._headers = status, headers


if __name__ == "__main__":
    main()
