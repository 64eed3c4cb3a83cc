"""Whose tokens each server takes, in the admin. A secret goes in and is never shown again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit.look_only import badge, nothing, plural
from authserver.resources import gateway_resource
from connections.forms import sealed_state, secret_box
from connections.models import McpServer
from oauthflow.protocol.secret import Secret

from ..callers.changes import drop_trust, keep_trust
from ..callers.signed_token import ALGORITHMS
from ..models import InboundTrust
from ..models.inbound_trust import usual_algorithms

if TYPE_CHECKING:
    _Form = forms.ModelForm[InboundTrust]
    _ModelAdmin = admin.ModelAdmin[InboundTrust]
else:
    _Form, _ModelAdmin = forms.ModelForm, admin.ModelAdmin

_ISSUER = ("issuer", "audience_is", "audience", "scope", "broader_scope")
_PEOPLE = ("person_by", "username_claim")
_SIGNED = ("jwks_uri", "algorithms", "accept_plain_jwt")
_ASKED = ("introspection_endpoint", "client_id", "new_client_secret", "cache_seconds")
_WHOM = (
    "Whoever can make the issuer say what stands here acts as that person. A subject never changes and belongs to one "
    "person; an address or a name may be given to somebody else one day."
)


class InboundTrustForm(_Form):
    """The rules of one server; nothing is asked of the network."""

    algorithms = forms.MultipleChoiceField(
        choices=[(name, name) for name in ALGORITHMS],
        widget=forms.CheckboxSelectMultiple,
        required=False,
        initial=usual_algorithms,
    )
    new_client_secret = secret_box("Our client secret there")

    class Meta:
        model = InboundTrust
        fields = ("server", "kind", "allow_api_tokens")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        state = sealed_state(self.instance.client_secret_sealed)
        self.fields["new_client_secret"].help_text = format_html("{} Leave empty to keep it as it is.", state)

    def clean(self) -> dict[str, Any]:
        """Ask for the secret where there is none yet."""
        said = super().clean() or {}
        is_asked = said.get("kind") == InboundTrust.Kind.INTROSPECTION
        if is_asked and not said.get("new_client_secret") and not self.instance.client_secret_sealed:
            self.add_error("new_client_secret", "The issuer wants to know who asks about its tokens.")
        return said


@admin.register(InboundTrust)
class InboundTrustAdmin(_ModelAdmin):
    """A server that is not here takes tokens of this site only."""

    form = InboundTrustForm
    list_display = ("server", "whose", "known_by", "scripts")
    list_select_related = ("server",)
    search_fields = ("server__name", "server__slug", "issuer")
    autocomplete_fields = ("server",)
    actions: Any = None
    show_facets = admin.ShowFacets.NEVER
    fieldsets = (
        (None, {"fields": ("server", "kind", "allow_api_tokens")}),
        ("The issuer and its tokens", {"fields": _ISSUER, "classes": ("of-others",)}),
        ("Whom a token stands for", {"fields": _PEOPLE, "classes": ("of-others",), "description": _WHOM}),
        ("Signed tokens", {"fields": _SIGNED, "classes": ("of-issuer",)}),
        ("Asking about tokens", {"fields": _ASKED, "classes": ("of-introspection",)}),
    )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": plural(InboundTrust), **(extra_context or {})})

    def get_fieldsets(self, request: HttpRequest, obj: InboundTrust | None = None) -> Any:
        fields = _ISSUER if obj else tuple(name for name in _ISSUER if name != "audience_is")
        return [
            (name, {**part, "fields": fields if part["fields"] is _ISSUER else part["fields"]})
            for name, part in self.fieldsets
        ]

    def get_form(
        self, request: HttpRequest, obj: InboundTrust | None = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm[InboundTrust]]:
        made = super().get_form(request, obj, change=change, **kwargs)
        if widget := getattr(made.base_fields.get("server"), "widget", None):
            # Servers have their own pages; no pop-ups beside the choice.
            widget.can_add_related = widget.can_change_related = False
            widget.can_view_related = widget.can_delete_related = False
        return made

    def get_readonly_fields(self, request: HttpRequest, obj: InboundTrust | None = None) -> tuple[str, ...]:
        return ("server", "audience_is") if obj else ("audience_is",)

    @admin.display(description="issuer", ordering="issuer")
    def whose(self, trust: InboundTrust) -> SafeString:
        if not trust.is_external:
            return badge("This site", tone="good")
        return format_html('<span class="site-address">{}</span>', trust.issuer)

    @admin.display(description="people are known by")
    def known_by(self, trust: InboundTrust) -> object:
        return trust.get_person_by_display().partition(":")[0] if trust.is_external else nothing()

    @admin.display(description="API tokens", ordering="allow_api_tokens")
    def scripts(self, trust: InboundTrust) -> object:
        return badge("Taken") if trust.allow_api_tokens else nothing()

    @admin.display(description="gateway address")
    def audience_is(self, trust: InboundTrust) -> object:
        slug = McpServer.objects.filter(pk=trust.server_id).values_list("slug", flat=True).first()
        return format_html('<code class="site-copy">{}</code>', gateway_resource(slug)) if slug else nothing()

    def save_model(self, request: HttpRequest, obj: InboundTrust, form: forms.ModelForm[Any], change: bool) -> None:
        fields = {name.removeprefix("new_") for name in form.changed_data}
        if typed := form.cleaned_data["new_client_secret"]:
            obj.client_secret_sealed = Secret(typed)
        if change and not fields:
            return
        if keep_trust(obj, fields=fields, actor=request.user):
            said = "Erased, because it belonged to the old issuer: our client secret there."
            self.message_user(request, said, messages.WARNING)

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> list[dict[str, dict[str, Any]]]:
        """Name the changed fields for the history; never a value."""
        names = [name.removeprefix("new_").replace("_", " ") for name in form.changed_data]
        return [{"added": {}} if add else {"changed": {"fields": names}}]

    def delete_model(self, request: HttpRequest, obj: InboundTrust) -> None:
        drop_trust(obj, actor=request.user)
