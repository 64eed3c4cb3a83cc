"""`manage.py audit_erase_user ID`: erase a person's words from the audit record."""

from __future__ import annotations

from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from audit.erasure import erase_words
from audit.progress import drawn
from connections.models import Connection

_LARGEST_NUMBER: Final = 2**63 - 1


class Command(BaseCommand):
    help = (
        "Erase what a person has typed, and what others typed about their connections, from the audit record: reasons,"
        " names of API tokens, labels, addresses of resources that were read. What was done when, under the number of"
        " the account, stays, and the chain still verifies. Run it before or after you delete the account."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID", help="The number of the account, as in the record.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 < options["id"] <= _LARGEST_NUMBER:
            raise CommandError(f"{options['id']} is not the number of an account.")
        theirs = Connection.objects.filter(user_id=options["id"]).values_list("pk", flat=True)
        try:
            changed = erase_words(str(options["id"]), connections=map(str, theirs), now=timezone.now(), shown=drawn)
        except KeyboardInterrupt as error:
            raise CommandError("Stopped. Run it again to go on.", returncode=130) from error
        self.stdout.write(f"Words were erased in {changed} records.")
