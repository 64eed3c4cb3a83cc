"""People in the admin: Django's own pages, which say what ends before somebody is deactivated or deleted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from audit.append import appended_last
from connections.admin.servers import DELETED_WITH_IT
from connections.impact import Impact, impact_of
from connections.lock_order import lock_grants
from connections.models import Connection
from oauthflow.conf import configuration
from oauthflow.flows.deactivate import end_deactivated

from .connections import acting_person, revoke_each

if TYPE_CHECKING:
    from django import forms

    _UserAdmin = UserAdmin[User]
else:
    _UserAdmin = UserAdmin

admin.site.unregister(User)


@admin.register(User)
class AccountAdmin(_UserAdmin):
    """Whoever is deactivated or deleted is disconnected first."""

    actions = ("delete_selected",)

    # ---- Deactivating

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:  # fmt: skip
        """Ask once more where saving would deactivate somebody who is connected."""
        if request.method != "POST":
            return super().changeform_view(request, object_id, form_url, extra_context)
        user = self.get_object(request, object_id) if object_id else None
        if user is not None and self.has_change_permission(request, user) and _would_deactivate(request, user):
            impact = _impact_of([user])
            if impact.connections and not request.POST.get("confirmed"):
                return self._ask(request, user, impact)
        with transaction.atomic(), appended_last():
            return super().changeform_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: User, form: forms.ModelForm[User], change: bool) -> None:
        if change and not obj.is_active:
            lock_grants(_connections_of([obj]).values_list("pk", flat=True))  # before what stands on them
        super().save_model(request, obj, form, change)
        if change and not obj.is_active:
            count = end_deactivated(now=timezone.now(), person=obj, actor=acting_person(request))
            if count:
                said = (
                    f"{count} connection{'' if count == 1 else 's'} of {obj} ended and will be revoked at the services."
                )
                self.message_user(request, said, messages.WARNING)

    def _ask(self, request: HttpRequest, user: User, impact: Impact) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"Deactivate {user}",
            "opts": User._meta,
            "original": user,
            "impact": impact,
            "revokes": configuration().revoke_deactivated,
            "said": [(name, value) for name, values in request.POST.lists() for value in values
                     if name != "csrfmiddlewaretoken"],
        }  # fmt: skip
        return TemplateResponse(request, "admin/auth/user/deactivate.html", context)

    # ---- Deleting

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        user = self.get_object(request, object_id)
        if request.method == "POST" and user and self.has_delete_permission(request, user):
            _disconnect([user], actor=acting_person(request))
        impact = _impact_of([user]) if user else None
        return super().delete_view(request, object_id, {"impact": impact, **(extra_context or {})})

    @admin.action(description="Delete selected users", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        """Django's own action, whose question says as well who loses what."""
        asked: TemplateResponse | None = delete_selected(self, request, queryset)
        if asked is not None and asked.context_data is not None:
            asked.context_data["impact"] = _impact_of(queryset)
        return asked

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        _disconnect(queryset, actor=acting_person(request))
        _delete(queryset)

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        _delete(User.objects.filter(pk=obj.pk))

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        listed, counts, lacking, protected = super().get_deleted_objects(objs, request)
        return listed, counts, set(lacking) - DELETED_WITH_IT, protected


def _would_deactivate(request: HttpRequest, user: User) -> bool:
    return user.is_active and "is_active" not in request.POST


def _impact_of(users: Iterable[User]) -> Impact:
    return impact_of(_connections_of(users), now=timezone.now())


def _connections_of(users: Iterable[User]) -> QuerySet[Connection]:
    return Connection.objects.filter(user__in=list(users)).select_related("server", "tokens")


def _delete(users: QuerySet[User]) -> None:
    with transaction.atomic(), appended_last():
        lock_grants(_connections_of(users).values_list("pk", flat=True))
        users.delete()


def _disconnect(users: Iterable[User], *, actor: User) -> None:
    revoke_each(_connections_of(users), actor=actor, reason="the user was deleted")
