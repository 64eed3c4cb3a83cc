"""What was made of a row with secrets, kept under the very row that it was made of."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, Protocol, TypeVar

from oauthflow.newest import Newest

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
        self._kept: Newest[Hashable, tuple[Row, Opened]] = Newest(most=size)

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
