"""Writes to a site's SQLite file without a pause, in processes that are killed and started again.

    python -m tests.chaos.writer

Each line on standard input asks for a fresh process that writes; the answer is its id. It tells each commit by a line
`SEQUENCE` in the file that the line names, after the commit; `failed …` there says that a write did not succeed.
"""

from __future__ import annotations

import os
import sys


def write_for_ever(path: str) -> None:
    """Change a row and record it, in one transaction, again and again."""
    from django.db import transaction
    from django.db.models import F

    from audit.events import AuditEvent
    from audit.models import AuditHead
    from audit.record import record
    from connections.models import TokenSet

    told = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        try:
            with transaction.atomic():
                TokenSet.objects.update(generation=F("generation") + 1)
                record(AuditEvent.TOKEN_REFRESHED, connection=TokenSet.objects.get().connection)
                sequence = AuditHead.objects.get().sequence
        except Exception as error:
            os.write(told, f"failed {error!r}\n".encode())
        else:
            os.write(told, f"{sequence}\n".encode())


def main() -> None:
    """Fork once for each line, so that a start costs milliseconds."""
    import django

    django.setup()
    from django.db import connections

    print("ready", flush=True)
    for line in sys.stdin:
        connections.close_all()
        child = os.fork()
        if child == 0:
            write_for_ever(line.strip())
        print(child, flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
