"""Which headers the tools of a server describe for their arguments, as the stored definitions say. G-07; A6 G10.

All processes know the same, and a new one knows it at once: a server is looked up before its first call is judged, and
again after anything about policies or definitions was changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection
from django.db.models import TextField
from django.db.models.functions import Cast

from oauthflow.hot_path.batches import Batches
from oauthflow.hot_path.questions import PATIENCE_SECONDS
from oauthflow.newest import Newest

from ..messages.parameter_headers import ANNOTATION, parameter_headers
from ..models import ToolDefinition
from .compare import MOST_WORDINGS

if TYPE_CHECKING:
    from ..messages.parameter_headers import Wording

_SERVERS: Final = 1000
_MOST_WAITING: Final = 10_000
_OfServer: TypeAlias = Mapping[str, Collection["Wording"]]


class _Known(NamedTuple):
    version: int
    of_server: _OfServer


class DescribedHeaders:
    """Tells them. `open` it in the event loop whose calls it serves, and `close` it there."""

    def __init__(self) -> None:
        self._known: Newest[UUID, _Known] = Newest(most=_SERVERS)

    async def open(self) -> None:
        """Begin a thread that asks the database."""
        self._questions: Batches[UUID, _OfServer] = Batches(
            _answer, name="gateway-described", capacity=_MOST_WAITING,
            patience_seconds=PATIENCE_SECONDS,
        )  # fmt: skip

    async def close(self) -> None:
        """End it."""
        await self._questions.close()

    async def of_tool(self, server_id: UUID, tool: str, *, version: int) -> Collection[Wording]:
        """Return what each known wording of a tool says; nothing where none of them describes a header.

        Args:
            server_id: The server.
            tool: Its name.
            version: Of `PolicyBook`; what was read for another one is read again.

        Raises:
            django.db.Error: The database does not answer; then nobody knows what is described.
            BatchesFullError: It answers far too slowly, or says nothing.
        """
        known = self._known.get(server_id)
        if known is None or known.version != version:
            known = self._known[server_id] = _Known(version, await self._questions.put(server_id))
        return known.of_server.get(tool, ())


def _answer(asked: Sequence[UUID]) -> list[_OfServer]:
    """In the thread; who asks for the same server gets the same."""
    try:
        return _read_all(asked)
    except (OperationalError, InterfaceError):  # the server was restarted since: once more, on a new connection
        connection.close()
        return _read_all(asked)
    finally:
        connection.close()  # it is asked seldom, and connections are few


def _read_all(server_ids: Sequence[UUID]) -> list[_OfServer]:
    found = {server_id: _read(server_id) for server_id in set(server_ids)}
    return [found[server_id] for server_id in server_ids]


def _read(server_id: UUID) -> _OfServer:
    """Return all wordings of the tools of which one describes a header; nothing else leaves the database."""
    definitions = ToolDefinition.objects.filter(server=server_id).order_by()
    describing = definitions.annotate(text=Cast("definition", TextField())).filter(text__contains=ANNOTATION)
    found: dict[str, list[Wording]] = defaultdict(list)
    for name, definition in definitions.filter(name__in=describing.values("name")).values_list("name", "definition"):
        found[name].append(parameter_headers(definition.get("inputSchema")))
    # Where further wordings are not kept, one of them may describe nothing.
    return {name: {*all_, ()} if len(all_) >= MOST_WORDINGS else set(all_) for name, all_ in found.items()}
