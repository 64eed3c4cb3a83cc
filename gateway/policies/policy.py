"""What one person may do at one server: which tools, how much; put together from the rules of server and groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from ..definitions.compare import is_name
from ..messages.message import INVALID_PARAMS, Message, RefusedMessageError

_SHOWN_CHARACTERS: Final = 128
_WAITS: Final = "It describes itself differently than when it was approved, and waits for an administrator."


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a person may do.

    Attributes:
        calls_per_minute: So many at once, and then so many in each minute; None: any number.
        request_bytes: Longest request; None: as long as the gateway takes it.
        response_bytes: Longest answer, or event of a stream that stays open; None: as long as the gateway takes it.
        open_streams: At the same time in one process; None: as many as the gateway lets a person have.
    """

    calls_per_minute: int | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    open_streams: int | None = None


@dataclass(frozen=True, slots=True)
class ToolRule:
    """A list of tools. A pattern is a name, or the beginning of names before a `*`.

    What is denied is denied in capital and small letters: some servers take one for the other.
    """

    kind: Literal["allowed", "denied"]
    names: frozenset[str]
    prefixes: tuple[str, ...]

    @classmethod
    def of(cls, kind: Literal["allowed", "denied"], patterns: Iterable[str]) -> ToolRule:
        """Make one out of the patterns that somebody typed."""
        listed = [pattern.casefold() if kind == "denied" else pattern for pattern in patterns]
        prefixes = tuple(pattern[:-1] for pattern in listed if pattern.endswith("*"))
        return cls(kind, frozenset(pattern for pattern in listed if not pattern.endswith("*")), prefixes)

    def allows(self, tool: str) -> bool:
        """Whether a tool of that name may be seen and called."""
        name = tool.casefold() if self.kind == "denied" else tool
        is_listed = name in self.names or name.startswith(self.prefixes)
        return is_listed == (self.kind == "allowed")


ALL_TOOLS: Final = ToolRule.of("denied", ())


@dataclass(frozen=True, slots=True)
class Approvals:
    """What is known of the definitions of a server's tools, where its policy holds some of them back.

    Attributes:
        of_tool: The digests that were approved, by name of the tool.
        changed: Names of tools of which another wording waits, in small letters: some servers take one for the other.
        new_tools_wait: Whether a tool that nobody approved is held back.
        blocks_changed: Whether a wording that nobody approved is.
    """

    of_tool: Mapping[str, frozenset[str]]
    changed: frozenset[str]
    new_tools_wait: bool
    blocks_changed: bool

    def holds_back(self, tool: str, *, digest: str = "") -> bool:
        """Whether a tool waits for an administrator: this wording of it, or where none is given, any wording."""
        if self.blocks_changed and not digest and tool.casefold() in self.changed:
            return True
        approved = self.of_tool.get(tool)
        if approved is None:
            return self.new_tools_wait
        return self.blocks_changed and bool(digest) and digest not in approved


class ForbiddenError(RefusedMessageError):
    """A message that a policy does not let through."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What one person may do at one server.

    Attributes:
        rules: A tool is allowed if one of them allows it.
        limits: See there.
        approvals: None where no tool is held back.
        keeps_arguments: Whether what tools are called with is kept.
    """

    rules: tuple[ToolRule, ...] = (ALL_TOOLS,)
    limits: Limits = field(default_factory=Limits)
    approvals: Approvals | None = None
    keeps_arguments: bool = False

    @property
    def shows_all(self) -> bool:
        """Whether a list of tools passes as it is."""
        return self.approvals is None and ALL_TOOLS in self.rules

    def allows(self, tool: str) -> bool:
        """Whether a rule allows a tool of that name, and it is one: others might take a denied name out of it."""
        return is_name(tool) and any(rule.allows(tool) for rule in self.rules)

    def refusal_of(self, message: Message) -> ForbiddenError | None:
        """Return why a message does not reach the server; None where it may.

        A forbidden tool looks like one that does not exist: an error in an answer with status 200. Of a batch with one
        such call nothing passes, because half of it would be neither what was asked nor a refusal.

        Spec: server/tools, error handling.
        """
        if self.shows_all:
            return None
        for member in message.members:
            if refusal := self.refusal_of(member):
                refusal.status = 400
                return refusal
        if message.method != "tools/call" or not (words := self._words_against(message.name)):
            return None
        # Nobody reads an answer to a notification; its status says that it was not taken.
        status = 200 if message.kind == "request" else 400
        return ForbiddenError(INVALID_PARAMS, words, status=status, id=message.id)

    def _words_against(self, tool: str) -> str:
        unknown = f"Unknown tool: {tool[:_SHOWN_CHARACTERS]}"
        if not self.allows(tool):
            return unknown
        if self.approvals is None or not self.approvals.holds_back(tool):
            return ""
        return f"{unknown}. {_WAITS}" if tool in self.approvals.of_tool else unknown
