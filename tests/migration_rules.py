"""What one release may not do to tables that the release before it still uses. docs/upgrading.md."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.migrations import Migration
from django.db.migrations import operations as op
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import Field, ManyToManyField
from django.db.models.fields import NOT_PROVIDED

# What the release before does not use any more: app, migration, model or model.field.
UNUSED: frozenset[tuple[str, str, str]] = frozenset()


def broken_rules(migration: Migration, *, before: ProjectState) -> Iterator[str]:
    """Say for each operation on a table that was there before what the old release could not bear."""
    for operation in migration.operations:
        model, field = _named(operation)
        subject = f"{model}.{field}" if field else model
        if (migration.app_label, model) not in before.models:
            continue
        if (migration.app_label, migration.name, subject) in UNUSED:
            continue
        if reason := _reason(operation, fields=before.models[migration.app_label, model].fields):
            yield f"{migration.app_label} {migration.name}: {subject} {reason}"


def _named(operation: Operation) -> tuple[str, str]:
    """Return the names of model and field, each empty where there is none."""
    match operation:
        case op.RenameModel():
            return operation.old_name_lower, ""
        case op.RenameField():
            return operation.model_name_lower, operation.old_name
        case op.AddField() | op.AlterField() | op.RemoveField():
            return operation.model_name_lower, operation.name
    return str(getattr(operation, "model_name", getattr(operation, "name", ""))).lower(), ""


def _reason(operation: Operation, *, fields: dict[str, Field]) -> str:
    match operation:
        case op.RemoveField() | op.DeleteModel():
            return "is dropped, and the release before it reads it"
        case op.AlterModelTable() | op.RenameModel() | op.RenameField():
            return "is renamed"
        case op.AddConstraint():
            return "gets a constraint that the release before it does not keep"
        case op.AddField(field=field) if not _can_be_left_out(field):
            return "has no default in the database: the release before it cannot insert rows"
        case op.AlterField(name=name, field=field) if _is_narrower(fields[name], field):
            return "takes less than before"
    return ""


def _can_be_left_out(field: Field) -> bool:
    return field.null or field.db_default is not NOT_PROVIDED or isinstance(field, ManyToManyField)


def _is_narrower(old: Field, new: Field) -> bool:
    is_shorter = None not in (old.max_length, new.max_length) and new.max_length < old.max_length
    is_unique = new.unique and not old.unique
    return old.get_internal_type() != new.get_internal_type() or (old.null and not new.null) or is_shorter or is_unique
