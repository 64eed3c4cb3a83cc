from django.db import migrations

_TABLES = ("connections_connection", "connections_tokenset", "connections_mcpserver", "audit_auditrecord")


class Migration(migrations.Migration):
    """New columns in the tables that are used most: one nullable, one with a default in the database."""

    dependencies = [
        ("audit", "0001_initial"),
        ("connections", "0001_initial"),
    ]
    operations = [
        migrations.RunSQL(f"ALTER TABLE {table} ADD COLUMN next_{kind}", migrations.RunSQL.noop)
        for table in _TABLES
        for kind in ("note text NULL", "kind varchar(10) NOT NULL DEFAULT 'plain'")
    ]
