"""Triggers by which the database itself refuses to change or delete audit records. K07.

They stop mistakes and programs that reach the tables with the site's own rights; somebody who may drop triggers is
found out by the chain and its anchors. Only two ways through: records up to a checkpoint may be deleted, and records
that an erasure vouches for may lose words. On PostgreSQL the transaction has to say besides that it means to.
"""

from __future__ import annotations

from typing import Any, Final

from django.db import connection
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

_SQLITE: Final = (
    """CREATE TRIGGER IF NOT EXISTS audit_record_stays BEFORE DELETE ON audit_auditrecord
WHEN OLD.sequence > COALESCE((SELECT MAX(sequence) FROM audit_auditcheckpoint), 0)
BEGIN SELECT RAISE(ABORT, 'audit records are final'); END""",
    """CREATE TRIGGER IF NOT EXISTS audit_record_is_final BEFORE UPDATE ON audit_auditrecord
WHEN (NEW.sequence, NEW.at, NEW.event, NEW.actor, NEW.server, NEW.connection, NEW.correlation_id, NEW.key_id,
      NEW.previous_mac, NEW.mac)
  <> (OLD.sequence, OLD.at, OLD.event, OLD.actor, OLD.server, OLD.connection, OLD.correlation_id, OLD.key_id,
      OLD.previous_mac, OLD.mac)
  OR NOT EXISTS (SELECT 1 FROM audit_auditerasure WHERE sequence = OLD.sequence)
BEGIN SELECT RAISE(ABORT, 'audit records are final'); END""",
)
_POSTGRESQL: Final = (
    """CREATE OR REPLACE FUNCTION audit_record_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF current_setting('audit.removes', true) = 'on'
       AND OLD.sequence <= (SELECT MAX(sequence) FROM audit_auditcheckpoint) THEN
      RETURN OLD;
    END IF;
  ELSIF current_setting('audit.erases', true) = 'on'
        AND (NEW.sequence, NEW.at, NEW.event, NEW.actor, NEW.server, NEW.connection, NEW.correlation_id, NEW.key_id,
             NEW.previous_mac, NEW.mac)
          = (OLD.sequence, OLD.at, OLD.event, OLD.actor, OLD.server, OLD.connection, OLD.correlation_id, OLD.key_id,
             OLD.previous_mac, OLD.mac)
        AND EXISTS (SELECT 1 FROM audit_auditerasure WHERE sequence = OLD.sequence) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'audit records are final' USING ERRCODE = 'integrity_constraint_violation';
END $$""",
    "DROP TRIGGER IF EXISTS audit_record_is_final ON audit_auditrecord",
    "CREATE TRIGGER audit_record_is_final BEFORE UPDATE OR DELETE ON audit_auditrecord"
    " FOR EACH ROW EXECUTE FUNCTION audit_record_is_final()",
)
_REMOVE: Final = {
    "sqlite": ("DROP TRIGGER IF EXISTS audit_record_stays", "DROP TRIGGER IF EXISTS audit_record_is_final"),
    "postgresql": (
        "DROP TRIGGER IF EXISTS audit_record_is_final ON audit_auditrecord",
        "DROP FUNCTION IF EXISTS audit_record_is_final()",
    ),
}


def install(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Create the triggers; for a migration."""
    _run(_POSTGRESQL if schema_editor.connection.vendor == "postgresql" else _SQLITE)


def remove(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop the triggers; for a migration that is undone."""
    _run(_REMOVE[schema_editor.connection.vendor])


def restore_after_migrations(**kwargs: Any) -> None:
    """Create again what SQLite drops: a migration that changes a column there copies the table without its triggers."""
    if connection.vendor == "sqlite" and "audit_auditerasure" in connection.introspection.table_names():
        _run(_SQLITE)


def allow(what: str) -> None:
    """Say to PostgreSQL that this transaction, and no other, means to take something out.

    Args:
        what: `removes` or `erases`.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config(%s, 'on', true)", [f"audit.{what}"])


def _run(statements: tuple[str, ...]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
