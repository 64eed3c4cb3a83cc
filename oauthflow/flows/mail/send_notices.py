"""Send what waits: one letter for each person, with everything that is still true."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Final

from connections.models import McpServer
from oauthflow.flows.outbox import claim_due, pause_after, write_back
from oauthflow.models import Notice

from .letter import Item, send_letter
from .queue_notices import PROGRAM_STOPPED
from .still_true import is_still_true, link_of

_AT_ONCE: Final = 200


def send_notices(*, now: datetime) -> int:
    """Send the notices that are due; return how many letters went out."""
    waiting = Notice.objects.filter(user__is_active=True).exclude(user__email="").select_related("user")
    of_user: dict[int, list[Notice]] = defaultdict(list)
    for notice in claim_due(waiting, now=now, most=_AT_ONCE):
        if is_still_true(notice, now=now):
            of_user[notice.user_id].append(notice)
        else:
            write_back(notice, next_attempt_at=None)
    return sum(_send(notices, now=now) for notices in of_user.values())


def _send(notices: list[Notice], *, now: datetime) -> bool:
    found = McpServer.objects.filter(slug__in=[notice.server for notice in notices])
    names = dict(found.values_list("slug", "name"))
    items = [Item(names.get(one.server) or _HEADINGS[one.event_type], one.message, link_of(one)) for one in notices]
    subject = f"{len(items)} things need you" if len(items) > 1 else f"{items[0].heading} needs you"
    was_sent = send_letter(notices[0].user, subject=subject, lead=_LEAD, items=items)
    for notice in notices:
        again = None if was_sent or now >= notice.give_up_at else now + pause_after(notice.attempts)
        write_back(notice, next_attempt_at=again, sent_at=now if was_sent else None)
    return was_sent


_HEADINGS: Final = defaultdict(lambda: "Webhook", {PROGRAM_STOPPED: "A program"})
_LEAD: Final = "Something on this site needs you."
