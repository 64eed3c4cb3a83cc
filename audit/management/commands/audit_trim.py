"""`manage.py audit_trim`: remove old audit records and leave a chain that can still be verified."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from audit.anchors import our_anchors
from audit.progress import drawn
from audit.retention import BrokenChainError, countable, remove_older


class Command(BaseCommand):
    help = (
        "Remove the audit records that are older than some days. They are verified first, and a sealed checkpoint is"
        " kept from which audit_verify begins; export them before, if you need them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--keep-days", type=int, required=True, metavar="N", help="How many days to keep.")
        parser.add_argument("--dry-run", action="store_true", help="Only say how many records would go.")

    def handle(self, *args: Any, **options: Any) -> None:
        days = options["keep_days"]
        if not 0 < days < 100_000:
            raise CommandError("--keep-days needs a number of days, 1 or more.")
        now = timezone.now()
        before = now - timedelta(days=days)
        if options["dry_run"]:
            self.stdout.write(f"{countable(before=before)} records are older than {days} days.")
            return
        try:
            removed = remove_older(before=before, now=now, anchors=our_anchors(), shown=drawn)
        except BrokenChainError as error:
            raise CommandError(
                f"Nothing was removed: the chain is broken at record {error.found.sequence}: {error.found.problem}."
            ) from error
        except KeyboardInterrupt as error:
            raise CommandError("Stopped. Run it again to go on.", returncode=130) from error
        self.stdout.write(f"{removed} records were removed.")
