"""Several processes note the same tools at the same moment, and none of them is stopped by a deadlock."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connections.models import McpServer
from gateway.definitions.compare import _keep
from gateway.models import PolicyVersion, ToolDefinition
from tests.two_at_once import at_once, on_postgresql

pytestmark = [pytest.mark.django_db(transaction=True), on_postgresql]

COUNTS = r'UPDATE "gateway_policyversion"'


@pytest.fixture
def server(db: None) -> McpServer:
    PolicyVersion.objects.create()
    return McpServer.objects.create(name="Notes", slug="notes", url="https://notes.example/mcp", gateway_enabled=True)


def listing(server: McpServer, *names: str) -> Callable[[], object]:
    tools = {(name, name): {"name": name} for name in names}
    return lambda: _keep(server.pk, tools, known=frozenset())


@pytest.mark.parametrize("others", [("b", "c"), ("b", "a")])
def test_two_lists_of_tools_that_have_some_in_common(server: McpServer, others: tuple[str, str]) -> None:
    at_once(listing(server, "a", "b"), listing(server, *others), holding=COUNTS)
    assert set(ToolDefinition.objects.values_list("name", flat=True)) == {"a", "b", *others}
