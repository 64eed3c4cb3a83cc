"""The policies of all servers, in memory, and who is in which group: looked up again before they are a second old."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection

from oauthflow.hot_path.batches import Batches
from oauthflow.hot_path.questions import PATIENCE_SECONDS

from ..models import GroupPolicy, Rule, ServerPolicy, ToolDefinition
from .policy import ALL_TOOLS, Approvals, Limits, Policy, ToolRule

if TYPE_CHECKING:
    from ..callers.caller import Caller
    from ..targets.find import ServerRow

_ASKED_SECONDS: Final = 0.5
_MOST_PEOPLE: Final = 10_000
_LIMITS: Final = ("calls_per_minute", "request_bytes", "response_bytes", "open_streams")
_VERSION: Final = "SELECT number FROM gateway_policyversion WHERE id = 1"
_GROUPS: Final = "SELECT user_id, group_id FROM auth_user_groups WHERE user_id IN ({})"
_MOST_WAITING: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Page:
    """The rules of one server, and the policies that were put together from them."""

    of_server: ServerPolicy
    of_groups: Mapping[int, GroupPolicy]
    approvals: Approvals | None
    made: dict[frozenset[int], Policy] = field(default_factory=dict)

    def policy(self, groups: frozenset[int]) -> Policy:
        """Return what holds for somebody in these groups."""
        concerned = groups.intersection(self.of_groups)
        found = self.made.get(concerned)
        if found is None:
            rules = [self.of_groups[group] for group in sorted(concerned)]
            found = self.made[concerned] = combined(self.of_server, rules, approvals=self.approvals)
        return found


class PolicyBook:
    """Gives the policy of a caller. One statement of one row in each half second, while nothing changes.

    `open` it in the event loop whose calls it serves, and `close` it there.
    """

    def __init__(self) -> None:
        self._pages: dict[UUID, _Page] = {}
        self._people: dict[int, tuple[float, frozenset[int]]] = {}
        self._version, self._asked_at = -1, float("-inf")
        self._asking: asyncio.Future[Any] | None = None

    async def open(self) -> None:
        """Begin a thread that asks the database."""
        self._questions: Batches[int | None, Any] = Batches(
            self._answer, name="gateway-policies", capacity=_MOST_WAITING,
            patience_seconds=PATIENCE_SECONDS,
        )  # fmt: skip

    async def close(self) -> None:
        """End it."""
        await self._questions.close()

    @property
    def version(self) -> int:
        """Another number after each change of a policy, an approval or a definition that `policy_for` noticed."""
        return self._version

    async def policy_for(self, server: ServerRow, *, caller: Caller) -> Policy:
        """Return what a caller may do at a server, as it was at most half a second ago.

        Raises:
            django.db.Error: The database does not answer; then nobody knows what is allowed.
            BatchesFullError: It answers far too slowly, or says nothing.
        """
        if time.monotonic() - self._asked_at >= _ASKED_SECONDS:
            await self._renew()
        page = self._pages.get(server.id)
        if page is None:
            return _OPEN
        return page.policy(await self._groups_of(caller.user_id) if page.of_groups else frozenset())

    async def _renew(self) -> None:
        """Look whether there is something new; those who come meanwhile wait for the same answer."""
        if self._asking is None or self._asking.done():
            # The moment before the question: what is committed after it may not be in the answer.
            self._asking = self._questions.put(None)
            self._asking.add_done_callback(partial(self._keep, time.monotonic()))
        await asyncio.shield(self._asking)

    def _keep(self, asked_at: float, answer: asyncio.Future[Any]) -> None:
        if answer.exception() is None:
            self._asked_at = asked_at
            if answer.result() is not None:
                self._version, self._pages = answer.result()

    async def _groups_of(self, user_id: int) -> frozenset[int]:
        asked_at, groups = self._people.get(user_id, (float("-inf"), _NONE))
        now = time.monotonic()
        if now - asked_at >= _ASKED_SECONDS:
            groups = await self._questions.put(user_id)
            if len(self._people) >= _MOST_PEOPLE:
                self._people.clear()
            self._people[user_id] = (now, groups)
        return groups

    def _answer(self, asked: Sequence[int | None]) -> list[Any]:
        """In the thread: the rules where None asks, or the groups of a person."""
        try:
            return self._read(asked)
        except (OperationalError, InterfaceError):  # the server was restarted since: once more, on a new connection
            connection.close()
            return self._read(asked)

    def _read(self, asked: Sequence[int | None]) -> list[Any]:
        people = {user_id for user_id in asked if user_id is not None}
        groups = _read_groups(people) if people else {}
        rules = _read_rules(known=self._version) if None in asked else None
        return [rules if user_id is None else groups.get(user_id, _NONE) for user_id in asked]


def combined(server: ServerPolicy, groups: list[GroupPolicy], *, approvals: Approvals | None) -> Policy:
    """Put rules together.

    The rule of a group is about fewer people than the server's, and so was made with them in mind: what it says counts
    instead. Somebody in several groups was given each for something: they may what one of them allows.
    """
    tools = [found for rule in groups if (found := _tool_rule(rule))]
    limits: dict[str, int] = {}
    for name in _LIMITS:
        given = [value for rule in groups if (value := getattr(rule, name)) is not None]
        if given:
            limits[name] = max(given)
        elif (value := getattr(server, name)) is not None:
            limits[name] = value
    return Policy(
        rules=tuple(tools) or (_tool_rule(server) or ALL_TOOLS,),
        limits=Limits(**limits),
        approvals=approvals,
        keeps_arguments=server.keeps_arguments,
    )


def _tool_rule(rule: Rule) -> ToolRule | None:
    if rule.tools == Rule.Tools.INHERITED:
        return None
    if rule.tools == Rule.Tools.ALL:
        return ALL_TOOLS
    kind: Literal["allowed", "denied"] = "allowed" if rule.tools == Rule.Tools.ALLOWED else "denied"
    return ToolRule.of(kind, rule.tool_patterns.split())


def _read_groups(people: set[int]) -> dict[int, frozenset[int]]:
    groups: dict[int, set[int]] = defaultdict(set)
    for user_id, group_id in _rows(_GROUPS.format(", ".join(["%s"] * len(people))), *people):
        groups[user_id].add(group_id)
    return {user_id: frozenset(found) for user_id, found in groups.items()}


def _read_rules(*, known: int) -> tuple[int, dict[UUID, _Page]] | None:
    """Return the version and all rules; None while the version is the known one."""
    row = next(iter(_rows(_VERSION)), (0,))
    if row[0] == known:
        return None
    of_groups: dict[UUID, dict[int, GroupPolicy]] = defaultdict(dict)
    for rule in GroupPolicy.objects.all():
        of_groups[rule.policy_id][rule.group_id] = rule
    policies = list(ServerPolicy.objects.all())
    approvals = _approvals([policy for policy in policies if holds_back(policy)])
    return row[0], {one.pk: _Page(one, of_groups.get(one.pk, {}), approvals.get(one.pk)) for one in policies}


def holds_back(policy: ServerPolicy) -> bool:
    """Whether some tools of this server wait for an administrator."""
    return policy.blocks_changed or policy.approval == ServerPolicy.Approval.ADMINISTRATOR


def _approvals(policies: list[ServerPolicy]) -> dict[UUID, Approvals]:
    approved: dict[UUID, dict[str, set[str]]] = {policy.pk: defaultdict(set) for policy in policies}
    changed: dict[UUID, set[str]] = {policy.pk: set() for policy in policies}
    definitions = ToolDefinition.objects.filter(server__in=approved).order_by()
    for server, name, digest, state in definitions.values_list("server_id", "name", "digest", "state"):
        if state == ToolDefinition.State.APPROVED:
            approved[server][name].add(digest)
        else:
            changed[server].add(name.casefold())
    return {
        policy.pk: Approvals(
            of_tool={name: frozenset(digests) for name, digests in approved[policy.pk].items()},
            changed=frozenset(changed[policy.pk]),
            new_tools_wait=policy.approval == ServerPolicy.Approval.ADMINISTRATOR,
            blocks_changed=policy.blocks_changed,
        )
        for policy in policies
    }


def _rows(sql: str, *parameters: int) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


_NONE: Final[frozenset[int]] = frozenset()
_OPEN: Final = Policy()
