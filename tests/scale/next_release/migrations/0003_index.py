from django.db import migrations


def create_index(apps, schema_editor):
    """Without a lock that writers would wait for, where the database can."""
    concurrently = "CONCURRENTLY" if schema_editor.connection.vendor == "postgresql" else ""
    schema_editor.execute(f"DROP INDEX {concurrently} IF EXISTS next_release_by_kind")
    schema_editor.execute(f"CREATE INDEX {concurrently} next_release_by_kind ON connections_tokenset (next_kind)")


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("next_release", "0002_stop_in_the_middle")]
    operations = [migrations.RunPython(create_index, migrations.RunPython.noop)]
