"""How much one request may ask for, measured with all fragments expanded. Z08."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    NullValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
)

MAX_TOKENS: Final = 2000
MAX_DEPTH: Final = 8
MAX_ALIASES: Final = 15
MAX_ROOT_FIELDS: Final = 10
MAX_COST: Final = 1000
DEFAULT_PAGE: Final = 20
MAX_PAGE: Final = 100

# Fields of one name beside each other are compared pair by pair when a document is validated.
_MAX_REPEATED: Final = 50
_MAX_NESTING: Final = 30
_INTROSPECTION: Final = frozenset({"__schema", "__type"})


def check_limits(document: DocumentNode, *, variables: Mapping[str, Any], may_introspect: bool = False) -> None:
    """Measure a parsed document, before anything slower looks at it.

    Args:
        document: As the parser gave it; need not be valid.
        variables: What the caller sends for the variables, unchecked; page sizes may be among it.
        may_introspect: Do not measure introspection fields, which are deeper than everything else.

    Raises:
        GraphQLError: It asks for too much, runs in circles, or has definitions that nothing uses.
    """
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    tally = _Tally(fragments, dict(variables), may_introspect)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            tally.operation(definition)
        elif not isinstance(definition, FragmentDefinitionNode):
            raise GraphQLError("A document holds operations and fragments only.", definition)
    if not may_introspect and (unused := fragments.keys() - tally.used):
        raise GraphQLError(f"The fragment {min(unused)!r} is never used.")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the expanded document a selection stands.

    Attributes:
        depth: How many fields are around it.
        nesting: How many fields and fragments are around it.
        times: How often it will be resolved at most.
        page: How many edges the connection around it gives.
        open_fragments: Whose expansion it is in.
    """

    depth: int = 0
    nesting: int = 0
    times: int = 1
    page: int = 1
    open_fragments: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Tally:
    """What all operations of a document ask for together."""

    fragments: Mapping[str, FragmentDefinitionNode]
    variables: dict[str, Any]
    may_introspect: bool
    used: set[str] = field(default_factory=set)
    cost: int = 0
    aliases: int = 0
    repeated: int = 0
    root_fields: int = 0

    def operation(self, node: OperationDefinitionNode) -> None:
        for definition in node.variable_definitions or ():
            if isinstance(definition.default_value, IntValueNode):
                self.variables.setdefault(definition.variable.name.value, int(definition.default_value.value))
        self.selections(node.selection_set, place=_Place(), seen=set())

    def selections(self, chosen: SelectionSetNode, *, place: _Place, seen: set[str]) -> None:
        if place.nesting > _MAX_NESTING:
            raise GraphQLError(f"Fields and fragments are nested more than {_MAX_NESTING} deep.", chosen)
        for selection in chosen.selections:
            if isinstance(selection, FieldNode):
                self.field(selection, place=place, seen=seen)
            elif isinstance(selection, FragmentSpreadNode):
                self.spread(selection, place=place, seen=seen)
            elif isinstance(selection, InlineFragmentNode):
                self.spend(1)
                inner = _Place(place.depth, place.nesting + 1, place.times, place.page, place.open_fragments)
                self.selections(selection.selection_set, place=inner, seen=seen)

    def field(self, node: FieldNode, *, place: _Place, seen: set[str]) -> None:
        self.spend(place.times)
        self.count(node, place=place, seen=seen)
        if node.selection_set is None or (self.may_introspect and node.name.value in _INTROSPECTION):
            return
        if place.depth + 1 >= MAX_DEPTH:
            raise GraphQLError(f"Fields are nested more than {MAX_DEPTH} deep.", node)
        times = place.times * place.page if node.name.value == "edges" else place.times
        inner = _Place(place.depth + 1, place.nesting + 1, times, self.page_of(node), place.open_fragments)
        self.selections(node.selection_set, place=inner, seen=set())

    def spread(self, node: FragmentSpreadNode, *, place: _Place, seen: set[str]) -> None:
        self.spend(1)
        name = node.name.value
        if name in place.open_fragments:
            raise GraphQLError(f"The fragment {name!r} contains itself.", node)
        self.used.add(name)
        if name in self.fragments:
            around = place.open_fragments | {name}
            inner = _Place(place.depth, place.nesting + 1, place.times, place.page, around)
            self.selections(self.fragments[name].selection_set, place=inner, seen=seen)

    def spend(self, cost: int) -> None:
        self.cost += cost
        if self.cost > MAX_COST:
            raise GraphQLError(
                f"The request asks for more than {MAX_COST} values. Ask for fewer fields or shorter pages."
            )

    def count(self, node: FieldNode, *, place: _Place, seen: set[str]) -> None:
        key = (node.alias or node.name).value
        self.aliases += node.alias is not None
        self.repeated += key in seen
        self.root_fields += place.depth == 0
        seen.add(key)
        for count, limit, what in (
            (self.aliases, MAX_ALIASES, "aliases"),
            (self.repeated, _MAX_REPEATED, "repeated fields"),
            (self.root_fields, MAX_ROOT_FIELDS, "operations at once"),
        ):
            if count > limit:
                raise GraphQLError(f"The request has more than {limit} {what}.", node)

    def page_of(self, node: FieldNode) -> int:
        """Return how many edges a connection gives at most; any other field is taken for a short one."""
        asked = [
            self.number(argument.value) for argument in node.arguments or () if argument.name.value in ("first", "last")
        ]
        given = [number for number in asked if number is not None]
        return max(1, min(given)) if given else DEFAULT_PAGE

    def number(self, node: ValueNode) -> int | None:
        if isinstance(node, IntValueNode):
            return min(int(node.value[:9]), MAX_PAGE) if not node.value.startswith("-") else 0
        value = self.variables.get(node.name.value) if isinstance(node, VariableNode) else None
        if isinstance(node, NullValueNode) or value is None:
            return None
        return min(value, MAX_PAGE) if isinstance(value, int) else MAX_PAGE
