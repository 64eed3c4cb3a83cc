"""Bring the database and the files of a site up to date without starting it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from mcp_oauth_site.startup import prepare_site


class Command(BaseCommand):
    help = "Migrate the database and prepare broker and files, as `up` does at its start; running it again is safe."
    requires_system_checks = "__all__"

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            prepare_site()
        except DatabaseError as error:
            raise CommandError(
                "DATABASE_URL names a database that cannot be used or migrated now; running this again is safe."
            ) from error
        self.stdout.write("Ready.")
