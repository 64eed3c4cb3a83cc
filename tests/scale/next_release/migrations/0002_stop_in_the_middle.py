import os
import threading
from pathlib import Path

from django.db import migrations


def wait_to_be_killed(apps, schema_editor):
    """Where the environment names a file: say there that a table has changed, and go no further."""
    if name := os.environ.get("STOP_IN_THE_MIDDLE"):
        Path(name).touch()
        threading.Event().wait(600)


class Migration(migrations.Migration):
    dependencies = [("next_release", "0001_expand")]
    operations = [
        migrations.RunSQL("CREATE TABLE next_release_half (id integer PRIMARY KEY)", migrations.RunSQL.noop),
        migrations.RunPython(wait_to_be_killed, migrations.RunPython.noop),
        migrations.RunSQL("CREATE TABLE next_release_whole (id integer PRIMARY KEY)", migrations.RunSQL.noop),
    ]
