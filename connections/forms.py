"""Forms of the admin. Secrets go in and are never shown again, not even to the person who typed them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cryptography.fernet import InvalidToken
from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from encrypted_model_fields.fields import CRYPTER

from audit.look_only import badge, in_words

from .formats.documents import MAX_CHARACTERS
from .models import McpServer
from .models.api_token import ApiScope
from .profiles import PROFILES, profile_of
from .sealing import Sealed
from .serializers import SECRET_FIELDS, set_secret
from .server_changes import TARGET_FIELDS, changed_fields, check_server
from .server_impact import impact_of_new_target

if TYPE_CHECKING:
    _ServerModelForm = forms.ModelForm[McpServer]
    _People = forms.ModelChoiceField[User]
else:
    _ServerModelForm = forms.ModelForm
    _People = forms.ModelChoiceField

_LONGEST_SECRET: Final = 16_384
_HOW_TO_ENTER: Final = {
    "environment": " One NAME=value on each line.",
    "client_private_key": " P-256 in PEM or JWK form, for private_key_jwt; without it the site's own key signs.",
    "assertion": " Only where no source is named above.",
}


class _EmptyTextarea(forms.Textarea):
    """Shows nothing of what was typed before."""

    def format_value(self, value: Any) -> str:
        return ""


def secret_box(label: str, **options: Any) -> forms.CharField:
    """Make a password box that is always empty; empty means that nothing changes."""
    widget = forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField", "spellcheck": "false"})
    return forms.CharField(
        label=label, required=False, max_length=_LONGEST_SECRET, strip=False, widget=widget, **options
    )


def sealed_state(sealed: Sealed) -> SafeString:
    """Say whether a secret is stored and since when, without opening it."""
    if not sealed:
        return badge("Not set")
    try:
        at = datetime.fromtimestamp(CRYPTER.extract_timestamp(sealed.ciphertext.encode()), tz=UTC)
    except InvalidToken:
        return badge("Set, but this site's keys do not open it", tone="bad")
    return badge(f"Set, {in_words(at)}", tone="good")


class McpServerForm(_ServerModelForm):
    """The configuration of a server, checked by the same rules as everywhere else; nothing is asked of the network."""

    actor: ClassVar[User | None] = None

    new_client_secret = secret_box("Client secret")
    clear_client_secret = forms.BooleanField(label="Erase the stored client secret", required=False)
    new_client_private_key = forms.CharField(
        label="Client private key",
        required=False,
        max_length=_LONGEST_SECRET,
        widget=_EmptyTextarea(attrs={"rows": 3, "class": "vLargeTextField", "autocomplete": "off"}),
    )
    clear_client_private_key = forms.BooleanField(label="Erase the stored private key", required=False)
    new_assertion = secret_box("Assertion (JWT)")
    clear_assertion = forms.BooleanField(label="Erase the stored assertion", required=False)
    new_static_credential = secret_box("Token or header value")
    clear_static_credential = forms.BooleanField(label="Erase the stored value", required=False)
    new_environment = forms.CharField(
        label="Environment variables",
        required=False,
        max_length=_LONGEST_SECRET,
        widget=_EmptyTextarea(attrs={"rows": 4, "class": "vLargeTextField", "autocomplete": "off"}),
    )
    clear_environment = forms.BooleanField(label="Erase the stored variables", required=False)
    confirm_target = forms.BooleanField(label="Yes, change where this server is", required=False)

    class Meta:
        model = McpServer
        fields = ("name", "slug", "url")
        widgets: ClassVar = {"description": forms.Textarea(attrs={"rows": 2})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in SECRET_FIELDS:
            state = sealed_state(getattr(self.instance, f"{name}_sealed"))
            how = _HOW_TO_ENTER.get(name, "")
            self.fields[f"new_{name}"].help_text = format_html("{} Leave empty to keep it as it is.{}", state, how)
        if "profile" in self.fields:
            self.fields["profile"].help_text = _profile_notes(self.instance.profile)
        if "transport" in self.fields and not settings.STDIO_SERVERS_ALLOWED:
            self._without_local_programs()

    def _without_local_programs(self) -> None:
        if self.instance.transport == McpServer.Transport.STDIO:
            return
        field = self.fields["transport"]
        if isinstance(field, forms.ChoiceField):
            known = McpServer.Transport.choices
            field.choices = [choice for choice in known if choice[0] != McpServer.Transport.STDIO]

    def clean_new_environment(self) -> dict[str, str]:
        """Read one variable from each line; the message repeats no value."""
        variables: dict[str, str] = {}
        for number, line in enumerate(self.cleaned_data["new_environment"].splitlines(), start=1):
            name, separator, value = line.partition("=")
            if not line.strip():
                continue
            if not separator or not name.strip().isidentifier():
                raise ValidationError(f"Line {number} is not NAME=value.")
            variables[name.strip()] = value
        return variables

    def add_error(self, field: str | None, error: Any) -> None:
        """Put what concerns a field that this person cannot edit above the form."""
        if field is None and hasattr(error, "error_dict"):
            for name, problems in error.error_dict.items():
                super().add_error(name if name in self.fields else NON_FIELD_ERRORS, problems)
        else:
            super().add_error(field, error)

    def full_clean(self) -> None:
        super().full_clean()
        if not self.is_bound:
            return
        for name in SECRET_FIELDS:
            if value := self.cleaned_data.get(f"new_{name}"):
                set_secret(self.instance, name, value)
            elif self.cleaned_data.get(f"clear_{name}"):
                set_secret(self.instance, name, "")
        if not self.errors:
            self._check_whole()

    def _check_whole(self) -> None:
        before = McpServer.objects.filter(pk=self.instance.pk).first()
        try:
            check_server(self.instance, before=before, actor=self.actor)
        except ValidationError as error:
            self.add_error(None, error)
            return
        moved = before is not None and changed_fields(before, self.instance) & TARGET_FIELDS
        if moved and self.instance.connections.exists() and not self.cleaned_data.get("confirm_target"):
            self.add_error(
                "confirm_target",
                f"{impact_of_new_target(self.instance)} Stored secrets that belong to the old target are erased. "
                "If that is meant, tick the box, enter secrets again and save.",
            )


class ApiTokenForm(forms.Form):
    """What a new API token may do, and for how long."""

    user = _People(queryset=User.objects.filter(is_active=True), help_text="Whose rights it carries.")
    name = forms.CharField(max_length=80, help_text="What its owner will recognise it by.")
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, scope.value) for scope in ApiScope], widget=forms.CheckboxSelectMultiple
    )
    days = forms.IntegerField(
        label="Lifetime in days", min_value=1, max_value=3650, initial=90, required=False, help_text="Empty: no end."
    )

    def __init__(self, *args: Any, actor: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.actor = actor
        self.fields["user"].initial = actor.pk
        if not actor.is_superuser:
            # A token carries all rights of its user: whoever may issue one for somebody else has their rights too.
            self.fields["user"] = _People(queryset=User.objects.filter(pk=actor.pk), initial=actor.pk)

    def clean(self) -> dict[str, Any]:
        """Refuse a token that could take another person's access tokens out of here. L05, Z02."""
        said = super().clean() or {}
        releases = ApiScope.TOKENS_RELEASE.value in said.get("scopes", ())
        if releases and said.get("user") not in (None, self.actor):
            self.add_error("scopes", f"{ApiScope.TOKENS_RELEASE.value} can only be given to a token of your own.")
        return said

    @property
    def lifetime(self) -> timedelta | None:
        """How long the token lives; None: until it is revoked."""
        days: int | None = self.cleaned_data.get("days")
        return timedelta(days=days) if days else None


class ImportForm(forms.Form):
    """A file of servers to look at before it is taken over."""

    file = forms.FileField(
        label="File", help_text="mcpServers, VS Code, server.json, or this site's YAML; up to 1 MiB."
    )
    update = forms.BooleanField(
        label="Change servers that exist already", required=False, help_text="Otherwise they are skipped."
    )

    def clean_file(self) -> str:
        """Return the file's text."""
        content: bytes = self.cleaned_data["file"].read(MAX_CHARACTERS + 1)
        if len(content) > MAX_CHARACTERS:
            raise ValidationError("The file is longer than 1 MiB.")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValidationError("The file is not text in UTF-8.") from error


def _profile_notes(chosen: str) -> SafeString:
    """Write what to know or do at the chosen provider, and at all others behind a click."""
    notes = format_html_join(
        "", "<dt>{}</dt><dd>{}</dd>", ((profile.name, profile.note) for profile in PROFILES.values() if profile.note)
    )
    here = format_html("<strong>{}</strong>", note) if (note := profile_of(chosen).note) else "Known quirks."
    return format_html(
        '{} <details class="site-notes"><summary>What to know at each provider</summary><dl>{}</dl></details>',
        here, notes,
    )  # fmt: skip
