from django.db import migrations


def leave_room(apps, schema_editor):
    """Let PostgreSQL put a new version of a row beside the old one, without an entry in each of seven indexes.

    A connection is written at each refresh of its tokens, but nothing that an index covers.
    """
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE connections_connection SET (fillfactor = 80)")


class Migration(migrations.Migration):
    dependencies = [
        ("connections", "0008_connection_connected_at"),
    ]

    operations = [
        migrations.RunPython(leave_room, migrations.RunPython.noop),
    ]
