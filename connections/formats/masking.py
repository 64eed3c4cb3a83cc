"""Keys that somebody put into an address or a command line: shown as a placeholder in what leaves the site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

SECRET_NAME: Final = re.compile(
    r"key|token|secret|passw|pwd|credential|auth|signature|(?:^|[-_])(?:sig|pat|code)(?:$|[-_])", re.I
)
_ASSIGNMENT: Final = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)(?P<sign>=|:\s*)(?P<value>.+)", re.DOTALL)


def masked_url(url: str) -> str:
    """Replace the values of query parameters whose name sounds like a secret by `${NAME}`."""
    query = urlsplit(url).query
    if not query:
        return url
    return url[: len(url) - len(query)] + "&".join(_masked_pair(pair) for pair in query.split("&"))


def masked_arguments(arguments: Sequence[str]) -> list[str]:
    """Replace what sounds like a secret in a command line by `${NAME}`: `--api-key x`, `--token=x`, `KEY=x`."""
    shown: list[str] = []
    named_before = ""
    for argument in arguments:
        is_option = argument.startswith("-")
        if named_before and not is_option:
            shown.append(_mark(named_before))
        else:
            shown.append(_masked_pair(argument))
        names_next = is_option and "=" not in argument and SECRET_NAME.search(argument)
        named_before = argument if names_next else ""
    return shown


def _masked_pair(text: str) -> str:
    found = _ASSIGNMENT.fullmatch(text)
    if found is None or not SECRET_NAME.search(found["name"]):
        return text
    return f"{found['name']}{found['sign']}{_mark(found['name'])}"


def _mark(name: str) -> str:
    return f"${{{re.sub(r'[^A-Z0-9]+', '_', name.upper()).strip('_') or 'SECRET'}}}"
