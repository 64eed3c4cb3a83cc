"""Audit records as files: comma-separated values and JSON Lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.utils.encoders import JSONEncoder

_COLUMNS: Final = (
    "sequence", "at", "event", "actor", "server", "connection", "client", "reason", "correlation_id", "details",
)  # fmt: skip
# A spreadsheet takes a cell that begins like this for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

Row = Mapping[str, Any]


class CsvRenderer(BaseRenderer):
    """One line for each record, with a head line; `details` is JSON in one cell."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(_COLUMNS)
        writer.writerows([_cell(row[name]) for name in _COLUMNS] for row in _rows(data))
        return text.getvalue().encode()


class JsonLinesRenderer(BaseRenderer):
    """One JSON object on each line."""

    media_type = "application/x-ndjson"
    format = "jsonl"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        lines = (json.dumps(row, cls=JSONEncoder, separators=(",", ":")) for row in _rows(data))
        return "".join(f"{line}\n" for line in lines).encode()


RENDERERS: Final = (JSONRenderer, CsvRenderer, JsonLinesRenderer)


def _rows(data: Any) -> Sequence[Row]:
    rows: Sequence[Row] = data["results"]
    return rows


def _cell(value: object) -> str:
    text = json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
