from django.db import migrations

import connections.sealing


class Migration(migrations.Migration):
    dependencies = [
        ("oauthflow", "0002_event"),
    ]

    operations = [
        migrations.AddField(
            model_name="authorizationrequest",
            name="held_tokens_sealed",
            field=connections.sealing.SealedTextField(
                blank=True,
                db_default="",
                default="",
                help_text="What was granted to another account than before, until somebody decides.",
            ),
        ),
    ]
