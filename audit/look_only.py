"""Pages of the admin that only show, and the small words and marks on them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin


class LookOnlyAdmin(_ModelAdmin):
    """Shows rows to whoever may view them; nobody adds, changes or deletes one here."""

    actions: Any = None
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": plural(self.model), **(extra_context or {})})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def plural(model: type[models.Model]) -> str:
    """Return what rows of this kind are called, for a headline."""
    name = str(model._meta.verbose_name_plural)
    return name[:1].upper() + name[1:]


def badge(words: object, *, tone: str = "") -> SafeString:
    """Write a state as a mark with its words.

    Args:
        words: What is read; the tone never stands alone.
        tone: good, warn, bad, or empty for neither.
    """
    return format_html('<span class="site-badge {}">{}</span>', tone, words)


def nothing() -> SafeString:
    """Write that there is nothing to say; a narrow screen leaves it out."""
    return format_html('<span class="site-none">{}</span>', "–")


def moment(at: datetime | None, *, otherwise: str = "") -> SafeString:
    """Write a `time` element in words ("3 hours ago"), the exact time in its title."""
    if at is None:
        return format_html("{}", otherwise) if otherwise else nothing()
    exact = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), exact, in_words(at))


def in_words(at: datetime) -> str:
    """Say how far away a moment is, in its largest unit."""
    now = timezone.now()
    if abs(at - now) < timedelta(minutes=1):
        return "in a moment" if at > now else "just now"
    distance = timesince(min(at, now), max(at, now), depth=1).replace("\xa0", " ")
    return f"in {distance}" if at > now else f"{distance} ago"


def document(value: object) -> SafeString:
    """Write a JSON value for reading."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    return format_html('<pre class="site-document">{}</pre>', text)
