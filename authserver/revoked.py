"""What this process knows of revocations: looked up again before it is half a second old."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from asgiref.sync import sync_to_async
from django.db import connection
from django.utils import timezone

from oauthflow.hot_path.questions import PATIENCE_SECONDS

from .conf import authserver_configuration
from .models import Revocation, RevocationEpoch, ServiceAccount, Subject

Result = TypeVar("Result")

# Somebody may be deactivated by a statement that tells nobody: all is read again at least this often.
_EVERYTHING_SECONDS: Final = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Revoked:
    """What was revoked at one moment. A new object means that something may have changed.

    Attributes:
        values: See `authserver.models.Revocation`; each with the last Unix second of issue that it covers.
        subjects: The `sub` of people who are deactivated, and of service accounts that act for them.
        epoch: The counter that was read with it.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    subjects: frozenset[str] = frozenset()
    epoch: int = -1
    read_at: float = field(default_factory=time.monotonic)

    def covers(self, jti: str, family: str, subject: str, *, issued_at: int) -> bool:
        """Whether a token with these claims is bad."""
        values = self.values
        return subject in self.subjects or issued_at <= values.get(jti, -1.0) or issued_at <= values.get(family, -1.0)


class RevokedReader:
    """Gives the newest `Revoked`, asking the database at most twice a second: one row while nothing happened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looking: asyncio.Future[Revoked] | None = None
        self._forget()

    def _forget(self) -> None:
        self._latest, self._checked_at, self._good_seconds = Revoked(), float("-inf"), 0.0

    def forget(self) -> None:
        """Ask anew the next time; for a process that became another one, and for tests."""
        with self._lock:
            self._forget()

    def read(self) -> Revoked:
        """Return it, asking the database if it is time."""
        if (found := self.fresh()) is not None:
            return found
        with self._lock:
            if (found := self.fresh()) is not None:
                return found
            # Before the question: what is committed after it is not in the answer.
            asked_at = time.monotonic()
            self._latest = self._asked()
            self._checked_at, self._good_seconds = asked_at, authserver_configuration().revocation_check_seconds
            return self._latest

    async def aread(self) -> Revoked:
        """The same in an event loop, which goes on meanwhile; all who come until then wait for one look.

        Raises:
            TimeoutError: The database says nothing.
        """
        found = self.fresh()
        if found is not None:
            return found
        looking = self._looking
        if looking is None or looking.done() or looking.get_loop() is not asyncio.get_running_loop():
            looking = self._looking = asyncio.ensure_future(in_thread(self.read))
        return await asyncio.wait_for(asyncio.shield(looking), PATIENCE_SECONDS)

    def fresh(self) -> Revoked | None:
        """Return it unless the database has to be asked."""
        return self._latest if time.monotonic() - self._checked_at < self._good_seconds else None

    def _asked(self) -> Revoked:
        # The counter first: a revocation that comes in between is then found by the next look.
        epoch = RevocationEpoch.objects.filter(pk=1).values_list("number", flat=True).first() or 0
        if epoch == self._latest.epoch and time.monotonic() - self._latest.read_at < _EVERYTHING_SECONDS:
            return self._latest
        rows = Revocation.objects.filter(until__gt=timezone.now()).values_list("value", "issued_until")
        values = {value: issued_until.timestamp() for value, issued_until in rows}
        people = Subject.objects.filter(user__is_active=False).values_list("sub", flat=True)
        accounts = ServiceAccount.objects.filter(user__is_active=False).values_list("client__client_id", flat=True)
        found = Revoked(values, frozenset([*people, *accounts]), epoch)
        latest = self._latest
        if (latest.values, latest.subjects, latest.epoch) == (found.values, found.subjects, epoch):
            object.__setattr__(latest, "read_at", found.read_at)
            return latest
        return found


async def in_thread(call: Callable[[], Result]) -> Result:
    """Run something that asks the database beside the event loop, and let go of the connection."""

    def asked() -> Result:
        try:
            return call()
        finally:
            if not connection.in_atomic_block:
                connection.close()

    return await sync_to_async(asked, thread_sensitive=False)()


REVOKED: Final = RevokedReader()
