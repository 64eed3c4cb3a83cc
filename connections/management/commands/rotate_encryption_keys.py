"""`manage.py rotate_encryption_keys`: seal all stored secrets with the first key, while the site is running."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from audit.progress import drawn
from connections.key_canary import forget_unreadable_canary
from connections.key_fingerprints import NO_KEY, configured_keys, give_up_key
from connections.key_rotation import Summary, misplaced, rotate_keys, survey

_PLACES_SHOWN: Final = 10


class Command(BaseCommand):
    help = (
        "Seal every stored secret with the first key of FIELD_ENCRYPTION_KEY. The site may be running; after an"
        " interruption, start it again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--verify",
            action="store_true",
            help="Change nothing: open every secret in its place and count them by key; exits with 1 unless all open"
            " with the first key.",
        )
        parser.add_argument(
            "--give-up",
            metavar="FINGERPRINT",
            help="Let the site start although this key is lost. What it sealed never opens again; people reconnect.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["give_up"]:
            self._give_up(options["give_up"])
            return
        try:
            if options["verify"]:
                self._verify()
            else:
                self._rotate()
        except KeyboardInterrupt as error:
            raise CommandError(
                "Stopped; what was done so far is kept. Start it again to go on.", returncode=130
            ) from error

    def _rotate(self) -> None:
        summary = rotate_keys(now=timezone.now(), shown=drawn)
        self._tell(summary)
        if summary.older:
            raise CommandError(
                "Another process keeps sealing with an older key; restart it with the same list, then run this again."
            )
        if summary.values[NO_KEY]:
            self.stderr.write("Some values open with no key; --verify tells where they stand.")

    def _verify(self) -> None:
        summary = survey(shown=drawn)
        self._tell(summary)
        places = list(islice(misplaced(shown=drawn), _PLACES_SHOWN))
        if places:
            raise CommandError(f"These do not open where they stand (at most {_PLACES_SHOWN}): {', '.join(places)}.")
        if summary.older:
            raise CommandError(f"{summary.older} values are sealed with older keys; run this without --verify.")

    def _tell(self, summary: Summary) -> None:
        listed = [key.fingerprint for key in configured_keys()]
        self.stdout.write(f"{'KEY':<14}{'VALUES':>9}")
        for number, name in enumerate(listed):
            count = summary.values[name]
            remark = "seals" if number == 0 else "still needed" if count else "may be removed"
            self.stdout.write(f"{name:<14}{count:>9}  {remark}")
        if summary.values[NO_KEY]:
            self.stdout.write(f"{'none':<14}{summary.values[NO_KEY]:>9}  do not open")
        if summary.rotated:
            self.stdout.write(f"{summary.rotated} rows were sealed anew.")

    def _give_up(self, fingerprint: str) -> None:
        if not give_up_key(fingerprint):
            raise CommandError("Only a registered key that FIELD_ENCRYPTION_KEY does not list can be given up.")
        forget_unreadable_canary()
        self.stdout.write(f"The key {fingerprint} is given up. What it sealed does not open any more.")
