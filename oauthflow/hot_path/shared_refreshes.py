"""One refresh for all callers of this process that want the same token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Final

import structlog
from django import db
from django.utils import timezone

from connections.database_time import by_database
from connections.models import Connection
from oauthflow.egress import leave_database
from oauthflow.flows.refresh import refresh_connection
from oauthflow.protocol.errors import FlowError

MOST: Final = 32
"""How many may be under way in this process; callers of further connections are left to the flow."""

_WAY_SECONDS: Final = 0.03
_log = structlog.get_logger(__name__)


class SharedRefreshes:
    """Those under way, one for each connection.

    Nobody gets a token, a right or an error from here, only the advice to look again: who asks is judged anew after it
    as before. All methods belong to the event loop's thread.
    """

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._under_way: dict[str, asyncio.Future[None]] = {}
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="shared-refresh")

    async def wait_for(self, connection_id: str, *, generation: int, trigger: str = "use") -> None:
        """Return when new tokens are stored, or the refresh is over without any; begin it where nobody has yet.

        Args:
            connection_id: Of a connection that the caller may use.
            generation: Of the tokens that are due or refused; newer ones are left as they are.
            trigger: Why, for the record of a refresh that begins now.
        """
        under_way = self._under_way.get(connection_id)
        if under_way is None:
            if len(self._under_way) >= self._most:
                return
            under_way = self._begin(connection_id, generation=generation, trigger=trigger)
        # Unlike a plain await, this ends with a caller who goes away without ending the refresh.
        await asyncio.wait((under_way,))

    def _begin(self, connection_id: str, *, generation: int, trigger: str) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            if not over.done():
                over.set_result(None)

        self._under_way[connection_id] = over
        over.add_done_callback(lambda _: self._under_way.pop(connection_id))
        tell = partial(loop.call_soon_threadsafe, end)
        self._threads.submit(copy_context().run, _refresh, connection_id, generation, trigger, tell)
        return over

    async def close(self) -> None:
        """Let those under way come to their end: what a server answers them is needed."""
        await asyncio.to_thread(self._threads.shutdown)


def _refresh(connection_id: str, generation: int, trigger: str, tell: Callable[[], object]) -> None:
    """Tell when the tokens are stored, and at the latest at the end; what is noted then, nobody waits for."""
    try:
        connection = Connection.objects.select_related("server").get(pk=connection_id)
        now = by_database(timezone.now())
        make_way = partial(_make_way, tell)
        refresh_connection(connection, now=now, trigger=trigger, generation=generation, stored=make_way)
    except (FlowError, Connection.DoesNotExist):
        pass  # Each of those who wait is told by the flow.
    except Exception:
        _log.exception("a refresh is left to the flow")
    finally:
        tell()
        db.connection.close()


def _make_way(tell: Callable[[], object]) -> None:
    """Tell, and let those who waited be answered before anything else is noted: they need both processors."""
    tell()
    leave_database()
    time.sleep(_WAY_SECONDS)
