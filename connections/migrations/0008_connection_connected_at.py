from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("connections", "0007_revocation_outbox"),
    ]

    operations = [
        migrations.AddField(
            model_name="connection",
            name="connected_at",
            field=models.DateTimeField(blank=True, help_text="When somebody last signed in for it.", null=True),
        ),
    ]
