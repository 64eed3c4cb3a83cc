"""Many rows in one statement: one JSON parameter, which both databases take apart, instead of one for each value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.db.models.expressions import RawSQL


def recordset(columns: Mapping[str, str]) -> str:
    """Return SQL that makes the rows `r` with these columns and PostgreSQL types out of one JSON parameter."""
    if connection.vendor == "postgresql":
        described = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        return f"json_to_recordset(%s::json) AS r({described})"
    extracted = ", ".join(f"{_stored(kind, name)} AS {name}" for name, kind in columns.items())
    return " ".join(("(SELECT", extracted, "FROM json_each(%s)) AS r"))


def one_of(ids: Iterable[UUID]) -> RawSQL:
    """Return what `pk__in=` takes; a thousand ids in a list are a thousand parameters."""
    if connection.vendor == "postgresql":  # unseen by the planner: for a few hundred it would read a small table whole
        return RawSQL("SELECT unnest((SELECT %s::uuid[]))", [f"{{{','.join([pk.hex for pk in ids])}}}"])
    return RawSQL("SELECT value FROM json_each(%s)", [as_json([pk.hex for pk in ids])])


def returned(cursor: CursorWrapper, ids: Sequence[UUID]) -> set[UUID]:
    """Return which of these rows a statement named; most name all, and then nothing is compared."""
    found = cursor.fetchall()
    return set(ids) if len(found) == len(ids) else {UUID(str(pk)) for (pk,) in found}


def _stored(kind: str, name: str) -> str:
    """A value of that JSON as Django stores it in SQLite: a UUID without hyphens, a time without its zone."""
    value = f"json_extract(value, '$.{name}')"
    if kind == "uuid":
        return f"replace({value}, '-', '')"
    return f"replace(substr({value}, 1, length({value}) - 6), 'T', ' ')" if kind == "timestamptz" else value


def _plain(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


as_json: Final = json.JSONEncoder(default=_plain, separators=(",", ":")).encode
"""Returns a list of rows as that parameter, or one of them; times have to be aware."""
