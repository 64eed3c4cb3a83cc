"""Forms of the admin: clients that an administrator enters, and tokens for those that register themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.core.exceptions import ValidationError

from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.scopes import format_scope, parse_scope
from oauthflow.protocol.urls import parse_http_url

from .models import McpClient, RegistrationToken
from .protocol.client_names import clean_name
from .protocol.errors import OAuthError
from .protocol.redirect_uri import check_redirect_uris
from .protocol.registration import check_jwks

if TYPE_CHECKING:
    _ClientModelForm = forms.ModelForm[McpClient]
    _TokenModelForm = forms.ModelForm[RegistrationToken]
else:
    _ClientModelForm = forms.ModelForm
    _TokenModelForm = forms.ModelForm

_GRANTS: Final = (
    ("authorization_code", "Ask people (authorization code)"),
    ("refresh_token", "Stay connected (refresh token)"),
    ("client_credentials", "Act by itself, as a service account"),
    ("urn:ietf:params:oauth:grant-type:token-exchange", "Exchange tokens for upstream tokens"),
)


class _Keys(forms.JSONField):
    """Shows nothing where there are no keys."""

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


class McpClientForm(_ClientModelForm):
    """A client that an administrator enters; judged by the rules of registration."""

    addresses = forms.CharField(
        label="Redirect URIs",
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField", "spellcheck": "false"}),
        help_text="One a line. https, http on localhost, or the program's own scheme.",
    )
    grants = forms.MultipleChoiceField(
        label="It may",
        choices=_GRANTS,
        widget=forms.CheckboxSelectMultiple,
        initial=["authorization_code", "refresh_token"],
    )

    jwks = _Keys(label="Public keys (JWKS)", required=False, widget=forms.Textarea(attrs={"rows": 3}))
    field_order = ("name", "addresses", "grants", "token_endpoint_auth_method", "jwks", "jwks_uri", "scope", "verified")

    class Meta:
        model = McpClient
        fields = ("name", "verified", "token_endpoint_auth_method", "scope", "jwks", "jwks_uri")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.fields["addresses"].initial = "\n".join(self.instance.redirect_uris)
            self.fields["grants"].initial = self.instance.grant_types

    def clean_name(self) -> str:
        return str(_judged(lambda: clean_name(self.cleaned_data["name"])) or "")

    def clean_jwks(self) -> Any:
        keys = self.cleaned_data["jwks"]
        return _judged(lambda: check_jwks(keys)) if keys else None

    def clean_jwks_uri(self) -> str:
        address = str(self.cleaned_data["jwks_uri"])
        if address:
            _judged(lambda: parse_http_url(address))
        return address

    def clean_scope(self) -> str:
        return str(_judged(lambda: format_scope(parse_scope(self.cleaned_data["scope"]))))

    def clean(self) -> dict[str, Any]:
        said = super().clean() or self.cleaned_data
        grants, lines = said.get("grants", []), said.get("addresses", "").split()
        if "authorization_code" in grants or lines:
            try:
                check_redirect_uris(lines, any_scheme=True)
            except OAuthError as error:
                self.add_error("addresses", f"This is not usable: {error.description}.")
        method = said.get("token_endpoint_auth_method")
        if method == McpClient.AuthMethod.PRIVATE_KEY_JWT and bool(said.get("jwks")) == bool(said.get("jwks_uri")):
            self.add_error("jwks_uri", "private_key_jwt needs public keys: themselves, or their address.")
        if method == McpClient.AuthMethod.NONE and set(grants) - {"authorization_code", "refresh_token"}:
            self.add_error("grants", "Only a client that proves who it is may act by itself or exchange tokens.")
        self.instance.redirect_uris, self.instance.grant_types = lines, list(grants)
        return said


class RegistrationTokenForm(_TokenModelForm):
    """A token for programs that register themselves."""

    days = forms.IntegerField(label="Valid for (days)", min_value=1, max_value=3650, initial=30)

    class Meta:
        model = RegistrationToken
        fields = ("name",)

    @property
    def lifetime(self) -> timedelta:
        """How long it is to be valid."""
        return timedelta(days=int(self.cleaned_data["days"]))


def _judged(rule: Any) -> Any:
    try:
        return rule()
    except (OAuthError, FlowError) as error:
        words = error.description if isinstance(error, OAuthError) else error.detail
        raise ValidationError(f"This is not usable: {words}.") from error
