"""Sign-in services that are held back, and the two decisions about them that only an administrator can take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from django.contrib import admin, messages
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit.look_only import LookOnlyAdmin, badge, moment, nothing
from connections.admin.dashboard import Matter, tell_of_matters
from connections.database_time import by_database
from connections.impact import impact_of

from ..flows.judge_issuer import believe_refusals, doubted, try_now
from ..flows.mail.recipients import MAY_CHANGE_SERVERS
from ..models import IssuerHealth
from ..models.issuer_health import CLIENT_CODES
from .connections import acting_person

_CHANGELIST: Final = "admin:oauthflow_issuerhealth_changelist"


@admin.register(IssuerHealth)
class IssuerHealthAdmin(LookOnlyAdmin):
    """There is a row for each service that ever failed; the troubled ones come first."""

    list_display = ("service", "state", "held", "refused", "client")
    list_display_links = None
    ordering = (F("guarded_until").desc(nulls_last=True), F("paused_until").desc(nulls_last=True), "issuer")
    search_fields = ("issuer", "client_id")
    actions = ("believe_selected", "try_selected")

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Whoever may change servers decides what is believed of their sign-in services."""
        return request.user.has_perm(MAY_CHANGE_SERVERS)

    @admin.display(description="sign-in service", ordering="issuer")
    def service(self, found: IssuerHealth) -> str:
        return found.issuer

    @admin.display(description="status")
    def state(self, found: IssuerHealth) -> SafeString:
        now = by_database(timezone.now())
        if found.is_guarded(now=now):
            return badge("Refuses everybody: not believed", tone="bad")
        if found.reason in CLIENT_CODES:
            return badge("Does not know this site", tone="bad")
        if found.paused_until is not None:
            return badge("Does not answer", tone="warn")
        if found.is_believed(now=now):
            return badge("Refusals are believed", tone="warn")
        return badge("Some requests failed", tone="warn") if found.failures else badge("Works again", tone="good")

    @admin.display(description="held until", ordering="paused_until")
    def held(self, found: IssuerHealth) -> SafeString:
        if found.is_guarded(now=by_database(timezone.now())):
            return format_html("guard ends {}", moment(found.guarded_until))
        return format_html("tried again {}", moment(found.paused_until)) if found.paused_until else nothing()

    @admin.display(description="refused", ordering="refusals")
    def refused(self, found: IssuerHealth) -> str:
        count = found.refusals
        return f"{count} grant{'s' * (count != 1)} refused" if count else nothing()

    @admin.display(description="client ID", ordering="client_id")
    def client(self, found: IssuerHealth) -> str:
        return found.client_id or nothing()

    @admin.action(description="Believe the refusals", permissions=["decide"])
    def believe_selected(self, request: HttpRequest, queryset: QuerySet[IssuerHealth]) -> HttpResponse | None:
        """Ask once more, with what it costs."""
        now = by_database(timezone.now())
        chosen = list(queryset.filter(guarded_until__gt=now))
        if not chosen:
            self.message_user(request, "None of these refuses everybody at the moment.", messages.WARNING)
            return None
        if not request.POST.get("confirmed"):
            return self._ask(request, chosen)
        count = sum(believe_refusals(found, actor=acting_person(request), now=now) for found in chosen)
        self.message_user(request, f"Refusals are believed for a day: {count}.", messages.SUCCESS)
        return None

    def _ask(self, request: HttpRequest, chosen: list[IssuerHealth]) -> HttpResponse:
        refused = [connection for found in chosen for connection in doubted(found.issuer)]
        context = {
            **self.admin_site.each_context(request),
            "title": "Believe the refusals",
            "opts": IssuerHealth._meta,
            "chosen": chosen,
            "impact": impact_of(refused, now=timezone.now()),
        }
        return TemplateResponse(request, "admin/oauthflow/issuerhealth/believe.html", context)

    @admin.action(description="Try now", permissions=["decide"])
    def try_selected(self, request: HttpRequest, queryset: QuerySet[IssuerHealth]) -> None:
        """One request, within a minute."""
        now = by_database(timezone.now())
        count = sum(try_now(found, actor=acting_person(request), now=now) for found in queryset)
        said = f"Tried with one request within a minute: {count}." if count else "None of these is held back."
        self.message_user(request, said, messages.SUCCESS if count else messages.WARNING)


def waiting_matters() -> Iterator[Matter]:
    """Say how many services are in which trouble, and where it is settled."""
    now, address = by_database(timezone.now()), reverse(_CHANGELIST)
    troubles = IssuerHealth.objects
    for found, one, many, tone in (
        (troubles.guarded(now=now), "refuses everybody's grants", "refuse everybody's grants", "bad"),
        (troubles.refusing_us(), "does not know this site", "do not know this site", "bad"),
        (troubles.away(), "does not answer", "do not answer", "warn"),
    ):
        if count := found.values("issuer").distinct().count():
            words = f"1 sign-in service {one}" if count == 1 else f"{count} sign-in services {many}"
            yield Matter(f"{words}.", address, tone)


tell_of_matters("sign-in services", waiting_matters)
