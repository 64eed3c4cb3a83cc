from django.db import migrations

# For LIKE alone, which nothing asks of these columns; every record paid for writing them. PostgreSQL only: SQLite never
# had them.
_INDEXES = (
    "audit_auditrecord_event_2742275a_like",
    "audit_auditrecord_actor_4827e736_like",
    "audit_auditrecord_server_4c33d757_like",
    "audit_auditrecord_connection_792e5f67_like",
    "audit_auditrecord_correlation_id_e85f8210_like",
)


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0005_alter_auditrecord_event"),
    ]

    operations = [
        migrations.RunSQL([f"DROP INDEX IF EXISTS {name}" for name in _INDEXES], migrations.RunSQL.noop),
    ]
