"""What only a hash is kept of: made by a form, shown on one answer that nobody keeps, revoked by a button."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.admin import display
from django.contrib.auth import get_permission_codename
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_variables

from audit.look_only import LookOnlyAdmin, moment
from oauthflow.protocol.secret import Secret

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin


class Issued(NamedTuple):
    """A new token: its row, its text, and for whom and what it is good."""

    row: Any
    token: Secret
    explanation: str = ""


def new_page(request: HttpRequest, admin: ModelAdmin[Any], form: forms.BaseForm, **said: str) -> HttpResponse:
    """Show a form; `said` may have `title`, `explanation` and the words on the `button`."""
    context = {**admin.admin_site.each_context(request), "opts": admin.opts, "form": form, **said}
    return TemplateResponse(request, "admin/issued/new.html", context)


@sensitive_variables("secret", "shown")
def shown_once(request: HttpRequest, admin: ModelAdmin[Any], secret: Secret | None, **said: str) -> HttpResponse:
    """Show a secret, if there is one; `said` may have `title`, `client_id` and `explanation`."""
    shown = {"secret": secret.reveal() if secret else "", **said}
    context = {**admin.admin_site.each_context(request), "opts": admin.opts, **shown}
    answer = TemplateResponse(request, "admin/issued/shown_once.html", context)
    answer.headers["Cache-Control"] = "no-store"
    return answer


class IssuedTokenAdmin(LookOnlyAdmin):
    """Tokens with `name`, `created_at`, `expires_at`, `last_used_at` and `revoked_at`."""

    change_form_template = "admin/issued/token.html"
    explanation = ""

    @abstractmethod
    def new_form(self, request: HttpRequest, actor: User) -> Any:
        """Return the form by which one is made, filled from the request."""

    @abstractmethod
    def issue(self, form: Any) -> Issued:
        """Make a token out of a valid form."""

    @abstractmethod
    def revoke_token(self, token: Any) -> None:
        """End it at once; ending it again changes nothing."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "add")

    def _may(self, request: HttpRequest, action: str) -> bool:
        named = f"{self.opts.app_label}.{get_permission_codename(action, self.opts)}"
        return isinstance(request.user, User) and request.user.has_perm(named)

    @display(description="last used", ordering="last_used_at")
    def used(self, token: Any) -> SafeString:
        return moment(token.last_used_at, otherwise="never")

    @display(description="ends", ordering="expires_at")
    def ends(self, token: Any) -> SafeString:
        return moment(token.expires_at, otherwise="never")

    @display(ordering="created_at")
    def created(self, token: Any) -> SafeString:
        return moment(token.created_at)

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_revoke"
        revoke = self.admin_site.admin_view(self.revoke)
        return [path("<uuid:token_id>/revoke/", revoke, name=name), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        said = {"may_revoke": self._may(request, "change"), **(extra_context or {})}
        return super().change_view(request, object_id, form_url, said)

    @sensitive_variables("issued")
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Issue a token and show it on this one answer."""
        actor = request.user
        if not isinstance(actor, User) or not self.has_add_permission(request):
            raise PermissionDenied
        form = self.new_form(request, actor)
        if not form.is_valid():
            said = {"title": f"New {self.opts.verbose_name}", "button": "Issue token"}
            return new_page(request, self, form, explanation=self.explanation, **said)
        issued = self.issue(form)
        self.log_addition(request, issued.row, [{"added": {}}])
        return shown_once(request, self, issued.token, title=issued.row.name, explanation=issued.explanation)

    def revoke(self, request: HttpRequest, token_id: UUID) -> HttpResponse:
        """End a token at once."""
        token = get_object_or_404(self.model, pk=token_id)
        if request.method != "POST" or not self._may(request, "change"):
            raise PermissionDenied
        self.revoke_token(token)
        self.log_change(request, token, [{"changed": {"fields": ["revoked"]}}])
        self.message_user(request, f"{token} can no longer be used.", messages.SUCCESS)
        return HttpResponseRedirect(
            reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=(token.pk,))
        )
