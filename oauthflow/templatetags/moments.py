"""Times in words, with the exact one beside them."""

from __future__ import annotations

from datetime import datetime, timedelta

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

register = template.Library()


@register.simple_tag
def moment(at: datetime) -> SafeString:
    """Write a `time` element: "3 minutes ago", "in 2 hours", "just now"."""
    exact = at.strftime("%Y-%m-%d %H:%M UTC")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', at.isoformat(), exact, distance(at, now=timezone.now())
    )


def distance(at: datetime, *, now: datetime) -> str:
    """Return how far a moment is away, in its largest unit."""
    if abs(at - now) < timedelta(minutes=1):
        return "in a moment" if at > now else "just now"
    words = timesince(min(at, now), max(at, now), depth=1).replace("\xa0", " ")
    return f"in {words}" if at > now else f"{words} ago"
