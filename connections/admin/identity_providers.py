"""Identity providers in the admin. The secret goes in and is never shown again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit.look_only import badge
from oauthflow.protocol.secret import Secret

from ..forms import sealed_state, secret_box
from ..models import IdentityProvider

if TYPE_CHECKING:
    _Form = forms.ModelForm[IdentityProvider]
    _Admin = admin.ModelAdmin[IdentityProvider]
else:
    _Form, _Admin = forms.ModelForm, admin.ModelAdmin


class IdentityProviderForm(_Form):
    """A provider; nothing is asked of the network."""

    new_client_secret = secret_box("Client secret")

    class Meta:
        model = IdentityProvider
        fields = ("name", "slug", "kind", "issuer", "client_id", "newcomers", "email_domains", "is_active")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        state = sealed_state(self.instance.client_secret_sealed)
        self.fields["new_client_secret"].help_text = format_html("{} Leave empty to keep it as it is.", state)

    def save(self, commit: bool = True) -> IdentityProvider:
        """Seal the secret, where one was entered, and save."""
        if typed := self.cleaned_data["new_client_secret"]:
            self.instance.client_secret_sealed = Secret(typed)
        return super().save(commit)


@admin.register(IdentityProvider)
class IdentityProviderAdmin(_Admin):
    """Who else may say who somebody is."""

    form = IdentityProviderForm
    list_display = ("name", "kind", "shown_newcomers", "state")
    readonly_fields = ("address_to_register",)
    fieldsets = (
        (None, {"fields": ("name", "slug", "kind", "issuer", "is_active")}),
        ("This site at the provider", {"fields": ("address_to_register", "client_id", "new_client_secret")}),
        ("People without an account here", {"fields": ("newcomers", "email_domains")}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: IdentityProvider | None = None) -> tuple[str, ...]:
        """Keep apart the people of different issuers: what names them stays as it was first saved. AS19."""
        return ("slug", "kind", "issuer", *self.readonly_fields) if obj else self.readonly_fields

    @admin.display(description="redirect URI to register there")
    def address_to_register(self, row: IdentityProvider) -> str:
        slug = row.slug or "SLUG"
        return f"{settings.PUBLIC_URL}/accounts/{slug}/login/callback/"

    @admin.display(description="newcomers", ordering="newcomers")
    def shown_newcomers(self, row: IdentityProvider) -> str:
        return row.email_domains if row.newcomers == row.Newcomers.DOMAINS else row.newcomers

    @admin.display(description="state", ordering="is_active")
    def state(self, row: IdentityProvider) -> SafeString:
        return badge("In use", tone="good") if row.is_active else badge("Off")
