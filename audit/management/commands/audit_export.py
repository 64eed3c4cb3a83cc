"""`manage.py audit_export`: the audit record as a file. That it was exported is recorded as well."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from audit.api import AuditRecordSerializer
from audit.events import AuditEvent
from audit.exports import CsvRenderer, JsonLinesRenderer
from audit.models import AuditRecord, AuditRecordQuerySet
from audit.pages import ascending
from audit.progress import with_progress
from audit.record import record

_RENDERERS: Final[dict[str, type[CsvRenderer] | type[JsonLinesRenderer]]] = {
    "csv": CsvRenderer,
    "jsonl": JsonLinesRenderer,
}
_CHUNK: Final = 500

Write = Callable[[str], object]


class Command(BaseCommand):
    help = "Write audit records, oldest first, as CSV or JSON Lines. That they were exported is recorded as well."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=sorted(_RENDERERS), default="jsonl", help="Default: jsonl.")
        parser.add_argument("--output", metavar="FILE", help="A new file, readable by you alone. Default: stdout.")
        parser.add_argument(
            "--after",
            type=int,
            default=0,
            metavar="N",
            help="Go on after record N; FILE, if it is there, is continued.",
        )
        parser.add_argument("--event", choices=AuditEvent.values, metavar="EVENT", help="Only this event.")
        parser.add_argument("--server", metavar="SLUG", help="Only what concerns this server.")
        parser.add_argument("--from", dest="since", metavar="TIME", help="ISO 8601; this instant and later.")
        parser.add_argument("--to", dest="until", metavar="TIME", help="ISO 8601; before this instant.")

    def handle(self, *args: Any, **options: Any) -> None:
        found = _wanted(options)
        total = found.count()
        done = options["after"]
        try:
            with _target(options["output"], goes_on=done > 0, otherwise=self._print) as (write, is_headed):
                # Recorded before the first line is out: an export that cannot be recorded does not happen.
                record(AuditEvent.AUDIT_EXPORTED, details={"format": options["format"], "count": total})
                entries = ascending(found)
                shown = with_progress(entries, total=total, label="Exporting", stream=sys.stderr)
                for last, lines in _lines(shown, kind=options["format"], is_headed=is_headed):
                    write(lines)
                    done = last
        except KeyboardInterrupt as error:
            raise CommandError(f"Stopped. Go on with: audit_export --after {done}", returncode=130) from error
        except OSError as error:
            wrote_some = options["output"] and done > options["after"]
            go_on = f" Records up to {done} are there; go on with: audit_export --after {done}" if wrote_some else ""
            raise CommandError(f"The export cannot be written: {error.strerror or error}.{go_on}") from error
        if options["output"]:
            records = "record" if total == 1 else "records"
            self.stdout.write(f"{total} {records} written to {options['output']}.")

    def _print(self, lines: str) -> None:
        self.stdout.write(lines, ending="")


def _wanted(options: dict[str, Any]) -> AuditRecordQuerySet:
    """The records that there are at this moment; the record of this export is not among them."""
    newest = AuditRecord.objects.order_by("-sequence").values_list("sequence", flat=True).first() or 0
    filters = {
        "sequence__gt": options["after"],
        "sequence__lte": newest,
        "event": options["event"],
        "server": options["server"],
        "at__gte": _instant(options["since"]),
        "at__lt": _instant(options["until"]),
    }
    return AuditRecord.objects.filter(**{name: value for name, value in filters.items() if value is not None}).order_by(
        "sequence"
    )


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    with suppress(ValueError, OverflowError):
        at = parse_datetime(text)
        if at is not None:
            return (timezone.make_aware(at) if timezone.is_naive(at) else at).astimezone(UTC)
    raise CommandError(f"{text!r} is not a time such as 2026-11-20T00:00:00Z.")


@contextmanager
def _target(path: str | None, *, goes_on: bool, otherwise: Write) -> Iterator[tuple[Write, bool]]:
    """Give what writes, and whether the head line of a table is there already."""
    if not path:
        yield otherwise, goes_on
        return
    if goes_on and Path(path).is_file() and not _ends_with_a_line(Path(path)):
        raise CommandError(f"{path} ends in the middle of a line: remove that line, and go on after the one before it.")
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if goes_on else os.O_EXCL)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError as error:
        raise CommandError(f"{path} is there already; choose another name, or go on with --after.") from error
    with FileIO(descriptor, "w") as file:
        yield partial(_write_whole, file), os.fstat(descriptor).st_size > 0


def _ends_with_a_line(path: Path) -> bool:
    """A process that was killed, or a machine without power, may leave a part of one."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")


def _write_whole(file: FileIO, lines: str) -> None:
    """Write lines to the end of a file; where the disk is full, leave none of them rather than a part."""
    before = os.fstat(file.fileno()).st_size
    left = lines.encode()
    try:
        while left:
            left = left[file.write(left) :]
    except BaseException:
        with suppress(OSError):  # a pipe keeps what it was given
            file.truncate(before)
        raise


def _lines(entries: Iterator[AuditRecord], *, kind: str, is_headed: bool) -> Iterator[tuple[int, str]]:
    """Yield the text of some records at a time, with the number of the last of them."""
    renderer = _RENDERERS[kind]()
    chunk = list(islice(entries, _CHUNK))
    while chunk or not is_headed:
        text = renderer.render({"results": AuditRecordSerializer(chunk, many=True).data}).decode()
        if kind == "csv" and is_headed:
            text = text.partition("\r\n")[2]
        is_headed = True
        yield chunk[-1].sequence if chunk else 0, text
        chunk = list(islice(entries, _CHUNK))
