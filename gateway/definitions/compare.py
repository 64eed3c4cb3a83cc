"""How tools describe themselves: the first wording is pinned, another one is reported. Security notes G15.

Lists of tools that pass by are handed to a thread; nobody's answer waits for it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import structlog
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.utils import timezone

from audit.append import appended_last
from oauthflow.hot_path.batches import Batches, BatchesFullError

from ..models import ServerPolicy, ToolDefinition
from .approve import report

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_WORDINGS: Final = 20
"""Of one tool; further ones are not kept, so that a tool that never says the same thing twice fills no table."""
MOST_OF_A_SERVER: Final = 20_000
"""Wordings of all its tools; further ones are not kept, so that one that makes up new names fills no table either."""
_MOST_TOOLS: Final = 2000
_MOST_NAME: Final = 128
_NAME: Final = re.compile(r"[!-~]+(?: [!-~]+)*")
_DEEPEST: Final = 50
_MOST_WAITING: Final = 100
_KNOWN_SECONDS: Final = 30.0
# What a model reads and what decides about a call. Icons and `_meta` are neither.
_PINNED: Final = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
_log = structlog.get_logger(__name__)


class _List(NamedTuple):
    """What a server listed, to be looked at."""

    server_id: UUID
    tools: Sequence[Any]


def pinned_part(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is compared of a tool, as its `tools/list` gives it."""
    return {name: tool[name] for name in _PINNED if tool.get(name) is not None}


def digest_of(tool: Mapping[str, Any]) -> str:
    """Return the SHA-256 of that, in hexadecimal; the order of members does not matter."""
    return hashlib.sha256(json.dumps(pinned_part(tool), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class DefinitionWatch:
    """Compares lists of tools with what is known. `open` it in the event loop that notes them; `close` it there."""

    def __init__(self) -> None:
        self._known: dict[UUID, tuple[float, frozenset[tuple[str, str]]]] = {}

    async def open(self) -> None:
        """Begin the thread."""
        self._lists: Batches[_List, None] = Batches(self._look, name="gateway-definitions", capacity=_MOST_WAITING)

    async def close(self) -> None:
        """Look at what waits, and end."""
        await self._lists.close()

    def note(self, server_id: UUID, tools: Sequence[Any]) -> None:
        """Have a list looked at soon. In a rush one may be left out: the next one says the same."""
        try:
            self._lists.put(_List(server_id, tools))
        except BatchesFullError:
            _log.warning("a list of tools was not compared")

    def _look(self, lists: Sequence[_List]) -> list[None]:
        for listed in lists:
            try:
                self._compare(listed)
            except (DatabaseError, InterfaceError):
                connection.close()
                _log.exception("a list of tools was not compared")
        return [None] * len(lists)

    def _compare(self, listed: _List) -> None:
        tools = {(tool["name"], digest_of(tool)): tool for tool in with_names(listed.tools)}
        read_at, known = self._known.get(listed.server_id, (float("-inf"), frozenset()))
        if time.monotonic() - read_at > _KNOWN_SECONDS or not tools.keys() <= known:
            read_at, known = time.monotonic(), _read_known(listed.server_id)
        new = {key: tool for key, tool in tools.items() if key not in known}
        if new:
            _keep(listed.server_id, new, known=known)
        self._known[listed.server_id] = (read_at, known | new.keys())


def is_name(name: str) -> bool:
    """Whether a tool can have that name: 1 to 128 visible characters of ASCII, with single spaces between them."""
    return len(name) <= _MOST_NAME and _NAME.fullmatch(name) is not None


def with_names(tools: Iterable[Any]) -> list[dict[str, Any]]:
    """Return those that can be tools at all: a name of 1 to 128 visible characters, and not nested beyond reason."""
    found = [tool for tool in tools if isinstance(tool, dict) and isinstance(tool.get("name"), str)]
    named = [tool for tool in found if is_name(tool["name"])]
    return [tool for tool in named[:_MOST_TOOLS] if not _is_deeper(tool, than=_DEEPEST)]


def _is_deeper(value: Any, *, than: int) -> bool:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return than < 0 or any(_is_deeper(member, than=than - 1) for member in members)


def _storable(value: Any) -> Any:
    """Return it without the characters that no database takes; the digest still has them."""
    if isinstance(value, dict):
        return {_storable(name): _storable(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_storable(member) for member in value]
    return value.replace("\0", "\ufffd").encode(errors="replace").decode() if isinstance(value, str) else value


def _read_known(server_id: UUID) -> frozenset[tuple[str, str]]:
    return frozenset(ToolDefinition.objects.filter(server=server_id).order_by().values_list("name", "digest"))


def _keep(server_id: UUID, new: Mapping[tuple[str, str], dict[str, Any]], *, known: frozenset[tuple[str, str]]) -> None:
    """Write what is new; of several processes the one that wrote it reports it."""
    wordings: dict[str, int] = {}
    for name, _ in known:
        wordings[name] = wordings.get(name, 0) + 1
    if len(known) + len(new) > MOST_OF_A_SERVER:
        _log.warning("a server lists more tools than are compared", server=str(server_id))
        return
    policy = ServerPolicy.objects.filter(pk=server_id).only("approval").first()
    waits = policy is not None and policy.approval == ServerPolicy.Approval.ADMINISTRATOR
    now = timezone.now()
    with transaction.atomic(), appended_last():
        kept = []
        for (name, digest), tool in sorted(new.items(), key=itemgetter(0)):
            wordings[name] = wordings.get(name, 0) + 1
            is_change = wordings[name] > 1
            if wordings[name] > MOST_WORDINGS:
                continue
            state = ToolDefinition.State.WAITING if is_change or waits else ToolDefinition.State.APPROVED
            definition, created = ToolDefinition.objects.get_or_create(
                server_id=server_id,
                name=name,
                digest=digest,
                defaults={
                    "definition": _storable(pinned_part(tool)),
                    "state": state,
                    "is_change": is_change,
                    "first_seen_at": now,
                    "approved_at": now if state == ToolDefinition.State.APPROVED else None,
                },
            )
            if created:
                kept.append(definition)
        if kept:
            report(kept, now=now)
