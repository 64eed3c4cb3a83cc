"""Letters: plain text with a simple HTML form beside it, and the link by which a person ends them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from smtplib import SMTPException
from typing import Final

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to tell: what it is about, our sentence, and the page where the person gets on."""

    heading: str
    sentence: str
    url: str


def send_letter(user: User, *, subject: str, lead: str, items: Sequence[Item]) -> bool:
    """Send one letter; False where the mail server did not take it. Neither address nor content is logged.

    Args:
        user: Has an address.
        subject: One line.
        lead: What stands above the items.
        items: At least one.
    """
    preferences = f"{settings.PUBLIC_URL}/accounts/mail"
    context = {"user": user, "lead": lead, "items": items, "preferences": preferences, "site": settings.PUBLIC_URL}
    letter = EmailMultiAlternatives(
        subject=" ".join(f"MCP OAuth: {subject}".split()),
        body=render_to_string("oauthflow/mail/letter.txt", context),
        to=[user.email],
        headers={"List-Unsubscribe": f"<{preferences}>", "Auto-Submitted": "auto-generated"},
    )
    letter.attach_alternative(render_to_string("oauthflow/mail/letter.html", context), "text/html")
    try:
        return bool(letter.send())
    except (SMTPException, OSError, ValueError) as error:  # a ValueError: an address or a name that is no header
        _log.warning("mail.not_sent", name=type(error).__name__, user=str(user.pk))
        return False
