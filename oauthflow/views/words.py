"""Scopes, codes and events in words that people use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from oauthflow.flows.webhooks.message import TEST_EVENT
from oauthflow.models import EventType, WebhookDelivery
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

EVENT_WORDS: Final[Mapping[str, str]] = {
    EventType.AUTHORIZATION_REQUIRED: "A sign-in waits for its person",
    EventType.AUTHORIZATION_COMPLETED: "A sign-in succeeded",
    EventType.AUTHORIZATION_FAILED: "A sign-in did not succeed",
    EventType.TOKEN_REFRESHED: "Access was renewed",
    EventType.TOKEN_EXPIRING_SOON: "Access ends soon and cannot be renewed",
    EventType.TOKEN_REFRESH_FAILED: "A renewal failed and is tried again",
    EventType.REAUTHORIZATION_REQUIRED: "Somebody has to reconnect",
    EventType.CREDENTIALS_REVOKED: "A connection was disconnected",
    EventType.CLIENT_SECRET_EXPIRING: "A client secret of this site ends soon",
    EventType.ISSUER_CHANGED: "A server names another sign-in service",
    TEST_EVENT: "Test",
}
_DROPPED: Final = "dropped"
_NO_ANSWER: Final[Mapping[str, str]] = {
    Code.TIMEOUT: "No answer in time",
    Code.NETWORK_ERROR: "The receiver could not be reached",
    Code.UPSTREAM_INVALID_RESPONSE: "The answer was not HTTP",
}


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


def delivery_words(delivery: WebhookDelivery) -> str:
    """Say how the last attempt of a delivery went."""
    if delivery.last_error == _DROPPED:
        return "Not sent: the owner may not see the connection any more"
    if delivery.last_attempt_at is None:
        return "Not tried yet"
    took = f" after {delivery.last_duration_ms} ms"
    if delivery.last_status is not None:
        return f"The receiver answered {delivery.last_status}{took}"
    if delivery.last_error in _NO_ANSWER:
        return f"{_NO_ANSWER[delivery.last_error]}{took}"
    return sentence_for(delivery.last_error)


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
