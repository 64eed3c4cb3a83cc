"""Two releases run on one database: no migration takes away what the release before it uses. F21."""

from __future__ import annotations

import pytest
from django.db import migrations, models
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from tests.faults import fault

from .migration_rules import broken_rules

# Not yet authserver: no release has its tables.
_OURS = {"audit", "connections", "oauthflow"}


@fault("F21")
def test_no_migration_breaks_the_release_before_it() -> None:
    loader = MigrationLoader(None)
    plan = list(dict.fromkeys(node for leaf in loader.graph.leaf_nodes() for node in loader.graph.forwards_plan(leaf)))
    state, broken = ProjectState(), []
    for node in plan:
        migration = loader.graph.nodes[node]
        if node[0] in _OURS:
            broken += broken_rules(migration, before=state)
        state = migration.mutate_state(state, preserve=False)
    assert len([node for node in plan if node[0] in _OURS]) > len(_OURS)
    assert broken == []


@pytest.mark.parametrize(
    "operation",
    [
        migrations.DeleteModel("note"),
        migrations.RenameModel("note", "remark"),
        migrations.AlterModelTable("note", "remarks"),
        migrations.RemoveField("note", "text"),
        migrations.RenameField("note", "text", "words"),
        migrations.AddField("note", "kind", models.CharField(max_length=10)),
        migrations.AddField("note", "kind", models.CharField(max_length=10, default="plain")),
        migrations.AlterField("note", "text", models.CharField(max_length=50)),
        migrations.AlterField("note", "text", models.CharField(max_length=100, unique=True)),
        migrations.AlterField("note", "text", models.IntegerField()),
        migrations.AlterField("note", "at", models.DateTimeField()),
        migrations.AddConstraint("note", models.UniqueConstraint(fields=["text"], name="one")),
    ],
    ids=lambda operation: operation.describe(),
)  # fmt: skip
def test_what_the_release_before_could_not_bear_is_found(operation: Operation) -> None:
    assert len(list(broken_rules(_migration(operation), before=_notes()))) == 1


@pytest.mark.parametrize(
    "operation",
    [
        migrations.CreateModel("other", [("id", models.BigAutoField(primary_key=True))]),
        migrations.AddField("note", "kind", models.CharField(max_length=10, db_default="plain")),
        migrations.AddField("note", "kind", models.CharField(max_length=10, null=True)),
        migrations.AlterField("note", "text", models.CharField(max_length=200)),
        migrations.AlterField("note", "text", models.CharField(max_length=100, null=True)),
        migrations.AddIndex("note", models.Index(fields=["text"], name="by_text")),
    ],
    ids=lambda operation: operation.describe(),
)  # fmt: skip
def test_what_the_release_before_can_bear_is_allowed(operation: Operation) -> None:
    assert list(broken_rules(_migration(operation), before=_notes())) == []


def _migration(operation: Operation) -> Migration:
    made = Migration("0002_change", "connections")
    made.operations = [operation]
    return made


def _notes() -> ProjectState:
    """One table, `note`, in front of the migration."""
    state = ProjectState()
    fields = [
        ("id", models.BigAutoField(primary_key=True)),
        ("text", models.CharField(max_length=100)),
        ("at", models.DateTimeField(null=True)),
    ]
    migrations.CreateModel("note", fields).state_forwards("connections", state)
    return state
