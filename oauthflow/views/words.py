"""Scopes and codes in words that people use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from oauthflow.protocol.codes import REASONS, SENTENCES, Code

_KNOWN: Final = {
    "openid": "Know who you are there",
    "profile": "See your profile",
    "email": "See your e-mail address",
    "offline_access": "Stay connected while you are away",
    "read": "Read",
    "write": "Change things",
    "admin": "Administer",
}
_VERBS: Final = {
    "read": "Read",
    "list": "List",
    "view": "See",
    "write": "Change",
    "edit": "Change",
    "create": "Create",
    "delete": "Delete",
    "manage": "Manage",
    "admin": "Administer",
    "call": "Use",
    "execute": "Run",
}
_PARTS: Final = re.compile(r"[a-z]+(?:[_-][a-z]+)*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ScopeWords:
    """A scope as the protocol spells it, and in words; empty where we know none."""

    name: str
    words: str


def describe_scopes(scope: str) -> list[ScopeWords]:
    """Put space-separated scopes into words, one by one."""
    return [ScopeWords(name, _words_for(name)) for name in scope.split()]


def sentence_for(reason: str) -> str:
    """Return our sentence for a code; a reason that is no code was a person's own words and stays as it is."""
    return SENTENCES[Code(reason)].message if reason in set(Code) else REASONS.get(reason, reason)


def _words_for(name: str) -> str:
    """`notes:read`, `read:notes` and `notes.read` all become "Read notes"; what does not read so stays a name."""
    if name in _KNOWN:
        return _KNOWN[name]
    parts = re.split(r"[:.]", name)
    if len(parts) != 2 or not all(_PARTS.fullmatch(part) for part in parts):
        return ""
    thing, verb = parts if parts[1].lower() in _VERBS else reversed(parts)
    action = _VERBS.get(verb.lower())
    return f"{action} {re.sub('[_-]', ' ', thing).lower()}" if action else ""
