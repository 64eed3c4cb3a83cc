"""The bodies that REST takes: JSON that is short, flat and means one thing only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

MAX_BODY_BYTES: Final = 1024 * 1024
_TOO_LONG: Final = f"The body is longer than {MAX_BODY_BYTES} bytes."
_NOT_JSON: Final = "The body is not JSON."


class JsonBodyParser(BaseParser):
    """Refuses by 400 what other parsers let pass or fall over: length, depth, repeated names, NaN, half characters."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        body: bytes = stream.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise ParseError(_TOO_LONG)
        try:
            read = json.loads(body.decode("utf-8"), object_pairs_hook=_unrepeated, parse_constant=_refuse)
            # An escape such as \ud800 is JSON and yet no text that a database or another server could take.
            json.dumps(read, ensure_ascii=False).encode("utf-8")
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
