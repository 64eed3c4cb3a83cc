"""What must be there before the first request: tables, keys that fit, the broker's file, static files."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.tokens import default_token_generator
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import connection
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from .broker import prepare_embedded_broker
from .canary import require_key_canary
from .celery import app, connection_within

_BROKER_SECONDS = 5
_log = structlog.get_logger(__name__)
_FIRST_ADMINISTRATOR = "admin"
# A number that no other program on this database is likely to lock.
_PREPARING = 7_206_951_301


def prepare_site() -> None:
    """Bring everything up to date; running it again changes nothing.

    Raises:
        ImproperlyConfigured: The keys do not fit the database.
    """
    with one_at_a_time():
        call_command("migrate", verbosity=0, interactive=False)
        call_command("createcachetable", verbosity=0)
        require_key_canary()
        prepare_broker()
        collect_static_files()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait until nobody else prepares: processes on this machine, and on PostgreSQL those of all machines.

    On PostgreSQL a migration then waits two seconds at most for a table that is in use, and fails instead of making
    everybody queue behind it; running it again goes on where it ended.
    """
    with (Path(str(settings.DATA_DIR)) / ".prepare.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if connection.vendor != "postgresql":
            yield
            return
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [_PREPARING])
            cursor.execute("SET lock_timeout = '2s'")
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_PREPARING])


def prepare_broker() -> None:
    """Declare the queue before worker and beat start: racing for it, one of them would stay broken.

    A Redis that is away is no reason not to start: tokens are given out and renewed without it. F05.
    """
    prepare_embedded_broker(settings.CELERY)
    try:
        with connection_within(_BROKER_SECONDS) as broker:
            broker.ensure_connection(max_retries=2, timeout=_BROKER_SECONDS)
            for queue in app.amqp.queues.values():
                queue(broker.default_channel).declare()
    except (BrokerError, RedisError) as error:
        if not settings.REDIS_URL:
            raise
        _log.warning("REDIS_URL names a broker that cannot be reached; starting without it", name=type(error).__name__)


def collect_static_files() -> None:
    """Copy the static files where the server reads them, unless they are the same as the last time."""
    stamp = Path(str(settings.STATIC_ROOT)) / ".collected"
    current = _fingerprint()
    if not stamp.exists() or stamp.read_text() != current:
        call_command("collectstatic", verbosity=0, interactive=False, clear=stamp.parent.exists())
        stamp.write_text(current)


def first_administrator_link() -> str:
    """Return a one-time link to choose the administrator's password, or nothing where somebody can sign in already."""
    users = get_user_model().objects
    administrators = users.filter(is_superuser=True, is_active=True)
    user = administrators.filter(username=_FIRST_ADMINISTRATOR).first()
    if user is None and not administrators.exists():
        user = users.create_superuser(_FIRST_ADMINISTRATOR, email="", password=None)
    if user is None or user.has_usable_password() or user.last_login is not None:
        return ""
    who = urlsafe_base64_encode(force_bytes(user.pk))
    token = default_token_generator.make_token(user)
    return f"{settings.PUBLIC_URL}{reverse('password_reset_confirm', args=[who, token])}"


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{settings.DEBUG}".encode())
    for finder in get_finders():
        for path, storage in finder.list([]):
            digest.update(f"{path}:{storage.size(path)}:{storage.get_modified_time(path)}\n".encode())
    return digest.hexdigest()
