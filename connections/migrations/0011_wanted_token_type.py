from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("connections", "0010_end_of_refresh_tokens"),
    ]

    operations = [
        migrations.AddField(
            model_name="tokenset",
            name="wanted_token_type",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Of which type the next one is to be, whatever this one is; empty: of the same.",
                max_length=20,
            ),
        ),
    ]
