"""What was made of a row with secrets, kept under the very row that it was made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, Protocol, TypeVar

SIZE: Final = 500
"""How many opened rows are held in memory at most."""


class RowOfConnection(Protocol):
    """A row that belongs to a connection; equal to another one only if nothing differs."""

    @property
    def connection_id(self) -> Hashable: ...


Row = TypeVar("Row", bound=RowOfConnection)
Opened = TypeVar("Opened")


class OpenedRows(Generic[Row, Opened]):
    """The most recently used, one for each connection.

    The row is asked for on every call and compared as a whole: a token that was refreshed, given up or tampered with
    is not found here, and of one connection there is never more than the newest.
    """

    def __init__(self, *, size: int = SIZE) -> None:
        self._size = size
        self._kept: OrderedDict[Hashable, tuple[Row, Opened]] = OrderedDict()

    def get(self, row: Row) -> Opened | None:
        """Return what was made of exactly this row."""
        found = self._kept.get(row.connection_id)
        if found is None or found[0] != row:
            return None
        self._kept.move_to_end(row.connection_id)
        return found[1]

    def keep(self, row: Row, opened: Opened) -> None:
        """Keep it in place of whatever there was for this connection."""
        self._kept[row.connection_id] = (row, opened)
        self._kept.move_to_end(row.connection_id)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
