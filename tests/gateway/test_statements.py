"""What a call asks the database costs the same however many people have a connection to the server."""

from __future__ import annotations

import pytest
from django.db import connection

from gateway.targets.statements import TARGET


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads the plan of SQLite")
def test_no_step_walks_through_all_connections_of_a_server() -> None:
    connection.ensure_connection()
    asked = [None] * len(TARGET.asked)
    steps = [row[3] for row in connection.connection.execute(f"EXPLAIN QUERY PLAN {TARGET.sqlite}", asked)]
    assert len([step for step in steps if step.startswith("SEARCH p ")]) == 2, steps
    assert not [step for step in steps if "connections_connection_server_id" in step], steps
    assert not [step for step in steps if step.startswith("SCAN") and "connections" in step], steps
