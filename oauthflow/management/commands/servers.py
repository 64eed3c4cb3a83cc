"""`manage.py servers`: take configuration over, give it out, and try whether people could connect."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from connections.formats.entry import UnreadableFileError
from connections.formats.export import ExportFormat, export_servers
from connections.formats.imports import ImportResult, import_servers
from connections.models import McpServer
from oauthflow.flows.check_server import check_server
from oauthflow.management.operator import asking, in_one_sentence
from oauthflow.management.table import printable, table

_LONGEST_FILE = 5 * 1024 * 1024


class Command(BaseCommand):
    help = "Import, export or check MCP servers."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="import|export|check")
        taking = actions.add_parser("import", help="Take servers over from a file of an MCP client or a registry.")
        taking.add_argument("file", help="mcpServers JSON, VS Code servers, server.json, or our own YAML; - for stdin.")
        taking.add_argument("--dry-run", action="store_true", help="Say what would happen and write nothing.")
        taking.add_argument("--update", action="store_true", help="Change servers that exist already.")
        giving = actions.add_parser("export", help="Print all servers as a file; secrets are left out and marked.")
        giving.add_argument("--format", choices=list(ExportFormat), default=ExportFormat.YAML, help="Default: yaml.")
        checking = actions.add_parser("check", help="Discover a server now and say whether people could connect.")
        checking.add_argument("slug")

    def handle(self, *args: Any, **options: Any) -> None:
        actions = {"import": self._import, "export": self._export, "check": self._check}
        with in_one_sentence():
            actions[options["action"]](options)

    def _import(self, options: dict[str, Any]) -> None:
        try:
            result = import_servers(
                _text_of(options["file"]),
                actor=None,
                now=timezone.now(),
                update=options["update"],
                dry_run=options["dry_run"],
            )
        except UnreadableFileError as error:
            raise CommandError(printable(str(error))) from error
        self._report(result)
        if count := len(result.problems):
            entries = "entry was" if count == 1 else "entries were"
            raise CommandError(f"{count} {entries} not taken over; the others were.")

    def _report(self, result: ImportResult) -> None:
        would = "would be " if result.dry_run else ""
        rows: list[tuple[str, str, str]] = [(slug, f"{would}created", "") for slug in result.created]
        rows += [(slug, f"{would}updated", "") for slug in result.updated]
        for what, remarks in (("skipped", result.skipped), ("REFUSED", result.problems), ("note", result.notes)):
            rows += [(remark.name, what, remark.reason) for remark in remarks]
        self.stdout.write(table(("SERVER", "WHAT", "WHY"), rows))

    def _export(self, options: dict[str, Any]) -> None:
        servers = McpServer.objects.prefetch_related("users", "groups")
        self.stdout.write(export_servers(servers, kind=ExportFormat(options["format"])), ending="")

    def _check(self, options: dict[str, Any]) -> None:
        server = McpServer.objects.filter(slug=options["slug"]).first()
        if server is None:
            raise CommandError(f"There is no server {options['slug']!r}.")
        with asking(server):
            trace = check_server(server, user=None, now=timezone.now())
        headings = ("STEP", "URL", "STATUS", "MS", "VERDICT")
        names = ("step", "url", "status", "duration_ms", "verdict")
        if trace.steps:
            self.stdout.write(table(headings, [[step.get(name) for name in names] for step in trace.steps]) + "\n")
        if not trace.ok:
            raise CommandError(printable(trace.verdict))
        self.stdout.write(printable(trace.verdict))


def _text_of(path: str) -> str:
    try:
        data = sys.stdin.buffer.read(_LONGEST_FILE + 1) if path == "-" else _bytes_of(Path(path))
        if len(data) > _LONGEST_FILE:
            raise CommandError(f"The file is longer than {_LONGEST_FILE // 1024 // 1024} MiB.")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not text in UTF-8.") from error


def _bytes_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LONGEST_FILE + 1)
