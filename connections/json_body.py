"""The bodies that REST takes: JSON that is short, flat and means one thing only."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

_NOT_JSON: Final = "The body is not JSON."
# As `json.dumps` writes it; behind an escaped backslash the same characters are harmless.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class JsonBodyParser(BaseParser):
    """Refuses by 400 what others let pass or fall over: length, depth, repeated names, NaN, NUL, half characters."""

    media_type = "application/json"
    max_body_bytes = 1024 * 1024

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        body: bytes = stream.read(self.max_body_bytes + 1)
        if len(body) > self.max_body_bytes:
            raise ParseError(f"The body is longer than {self.max_body_bytes} bytes.")
        try:
            read = json.loads(body.decode("utf-8"), object_pairs_hook=_unrepeated, parse_constant=_refuse)
            # An escape such as \ud800 is JSON and yet no text that a database or another server could take.
            text = json.dumps(read, ensure_ascii=False)
            text.encode("utf-8")
            if _NUL.search(text):
                raise ValueError("PostgreSQL stores no NUL")
        except (ValueError, RecursionError) as error:
            raise ParseError(_NOT_JSON) from error
        return read


def _unrepeated(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("a name is repeated")
    return read


def _refuse(constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")
