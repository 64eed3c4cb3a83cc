"""The challenge in a WWW-Authenticate header: read with patience, written with care."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_HEADER_CHARACTERS: Final = 16_384

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_SEPARATORS = re.compile(r"[\s,]*")
_PARAMETER = re.compile(rf'({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^\s,"]+))', re.DOTALL)
_SCHEME = re.compile(rf"({_WORD})(?=[\s,]|$)")
_TOKEN68 = re.compile(r"\s+[A-Za-z0-9._~+/-]+=*\s*(?=,|$)")
_REST_OF_ITEM = re.compile(r"[^,]*")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")
_SCHEMES: Final = {"bearer": "Bearer", "dpop": "DPoP"}


@dataclass(frozen=True, slots=True)
class BearerChallenge:
    """One challenge of a 401 or 403. RFC 6750 §3, RFC 9728 §5.1.

    Attributes:
        error: For example `invalid_token` or `insufficient_scope`; None where the request had no token.
        error_description: Words of the other server: for traces, never for pages.
        scope: Space-separated, not checked.
        resource_metadata: Where the protected-resource document is said to be, not checked.
        scheme: `Bearer` and `DPoP` in this spelling, others as received.
    """

    error: str | None = None
    error_description: str | None = None
    scope: str | None = None
    resource_metadata: str | None = None
    scheme: str = "Bearer"


def parse_challenges(header: str) -> list[BearerChallenge]:
    """Read every challenge of a header, in its order; whatever cannot be understood is passed over.

    Args:
        header: The field's value, several fields joined by commas; beyond 16,384 characters nothing is read.

    Returns:
        One value per scheme. Of a repeated parameter the first counts. Text is printable ASCII.

    Spec: RFC 9110 §11.6.1, §5.6.4; RFC 6750 §3. D-06.
    """
    text = header[:MAX_HEADER_CHARACTERS]
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(text):
        start, position = position, _end(_SEPARATORS, text, position)
        # A scheme stands at the start or after a comma; a lone word elsewhere is somebody's missing quote.
        begins_item = start == 0 or "," in text[start:position]
        if found and (parameter := _PARAMETER.match(text, position)):
            name, quoted, bare = parameter.groups()
            found[-1][1].setdefault(name.lower(), _plain(quoted, bare))
            position = parameter.end()
        elif begins_item and (scheme := _SCHEME.match(text, position)):
            found.append((scheme[1], {}))
            position = _end(_TOKEN68, text, scheme.end())
        else:
            position = _end(_REST_OF_ITEM, text, position)
    return [_challenge(scheme, parameters) for scheme, parameters in found]


def bearer_challenge(header: str) -> BearerChallenge | None:
    """Return the challenge that concerns us: Bearer, else DPoP; of several the first that says something.

    Spec: RFC 6750 §3; RFC 9449 §7.1. D-06.
    """
    challenges = parse_challenges(header)
    for scheme in _SCHEMES.values():
        ours = [challenge for challenge in challenges if challenge.scheme == scheme]
        if ours:
            return next((one for one in ours if one != BearerChallenge(scheme=scheme)), ours[0])
    return None


def format_challenge(challenge: BearerChallenge) -> str:
    """Return the header's value; what is not printable ASCII is left out, quotes and backslashes are escaped.

    Spec: RFC 6750 §3; RFC 9110 §11.6.1.
    """
    parameters = {
        "error": challenge.error,
        "error_description": challenge.error_description,
        "scope": challenge.scope,
        "resource_metadata": challenge.resource_metadata,
    }
    written = ", ".join(f'{name}="{_escape(value)}"' for name, value in parameters.items() if value is not None)
    return f"{challenge.scheme} {written}".rstrip()


def _challenge(scheme: str, parameters: dict[str, str]) -> BearerChallenge:
    return BearerChallenge(
        error=parameters.get("error"),
        error_description=parameters.get("error_description"),
        scope=parameters.get("scope"),
        resource_metadata=parameters.get("resource_metadata"),
        scheme=_SCHEMES.get(scheme.lower(), scheme),
    )


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _plain(quoted: str | None, bare: str | None) -> str:
    value = _ESCAPED.sub(r"\1", quoted) if quoted is not None else bare or ""
    return _NOT_PRINTABLE.sub("", value)


def _escape(value: str) -> str:
    return re.sub(r'(["\\])', r"\\\1", _NOT_PRINTABLE.sub("", value))
