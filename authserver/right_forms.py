"""Forms for what programs may do without a person, or with tokens of their callers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.db.models import Q, QuerySet

from .flows.exchange_token import GRANT_TYPE as TOKEN_EXCHANGE
from .models import ExchangePolicy, McpClient, ProtectedResource, ServiceAccount
from .resources import scopes_of

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[Any]
else:
    _ModelForm = forms.ModelForm


def clients_for(grant_type: str) -> QuerySet[McpClient]:
    """Return clients that an administrator entered for this grant and that have to prove who they are."""
    entered = McpClient.objects.filter(kind=McpClient.Kind.PRE_REGISTERED, ended_at__isnull=True)
    proving = entered.exclude(Q(token_endpoint_auth_method=McpClient.AuthMethod.NONE))
    return McpClient.objects.filter(pk__in=[client.pk for client in proving if grant_type in client.grant_types])


class _ClientForm(_ModelForm):
    """Offers the clients that the right can be given to."""

    grant_type: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "client" in self.fields:
            field = cast("forms.ModelChoiceField[McpClient]", self.fields["client"])
            field.queryset = clients_for(self.grant_type)
            field.help_text = "Enter the client first, with this grant and a way to authenticate."


class ServiceAccountForm(_ClientForm):
    """A service account; its resources stand one on each line."""

    grant_type = "client_credentials"
    resources = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 4}), help_text="One address on each line: resources that this site knows."
    )

    class Meta:
        model = ServiceAccount
        fields = ("client", "user", "resources")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.resources:
            self.initial["resources"] = "\n".join(self.instance.resources)

    def clean_resources(self) -> list[str]:
        """Read the lines; each has to be a resource of ours at this moment."""
        lines = [line.strip() for line in self.cleaned_data["resources"].splitlines() if line.strip()]
        for line in lines:
            if scopes_of(line) is None:
                raise forms.ValidationError(f"{line} is no resource that this site knows.")
        return lines


class ExchangePolicyForm(_ClientForm):
    """An exchange policy."""

    grant_type = TOKEN_EXCHANGE

    class Meta:
        model = ExchangePolicy
        fields = ("client", "subject_resource", "server")

    def clean_subject_resource(self) -> str:
        """The exchanged tokens have to be for a resource that we know."""
        uri = str(self.cleaned_data["subject_resource"])
        if scopes_of(uri) is None:
            raise forms.ValidationError("This is no resource that this site knows.")
        return uri


class ProtectedResourceForm(_ModelForm):
    """Somebody else's MCP server."""

    class Meta:
        model = ProtectedResource
        fields = ("name", "resource", "scopes", "is_active")
