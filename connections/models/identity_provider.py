"""Who else may say who somebody is: an OpenID provider, Google or GitHub."""

from __future__ import annotations

import uuid

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.urls import parse_http_url

from ..sealing import SealedTextField

GOOGLE_ISSUER = "https://accounts.google.com"
# Addresses below /accounts/ that are taken: a provider of this name would never be reached.
TAKEN = frozenset({"login", "logout", "inactive", "reauthenticate", "password", "reset", "2fa", "3rdparty"})


class IdentityProvider(models.Model):
    """A third party that people may sign in through. Accounts are known by issuer and `sub`, never by e-mail. AS19.

    Slug, kind and issuer stay as they were first saved: with another issuer behind the same slug, its people would be
    taken for those of the first.
    """

    class Kind(models.TextChoices):
        OPENID_CONNECT = "openid_connect", "OpenID provider"
        GOOGLE = "google", "Google"
        GITHUB = "github", "GitHub"

    class Newcomers(models.TextChoices):
        NOBODY = "nobody", "Nobody: only people who have an account here"
        DOMAINS = "domains", "People with a verified e-mail address of these domains"
        EVERYBODY = "everybody", "Everybody whom the provider knows"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=60, unique=True, help_text="What stands on the button.")
    slug = models.CharField(
        max_length=40,
        unique=True,
        validators=[RegexValidator(r"\A[a-z0-9][a-z0-9-]*\Z", "Small letters, digits and hyphens only.")],
        help_text="Part of the address that the provider sends people back to. Cannot be changed later.",
    )
    kind = models.CharField(max_length=20, choices=Kind.choices, default=Kind.OPENID_CONNECT)
    issuer = models.CharField(
        max_length=500, blank=True, help_text="Of an OpenID provider, exactly as its metadata says. Cannot be changed."
    )
    client_id = models.CharField(max_length=500)
    client_secret_sealed = SealedTextField()
    newcomers = models.CharField(
        "who gets an account by signing in", max_length=20, choices=Newcomers.choices, default=Newcomers.NOBODY
    )
    email_domains = models.CharField("domains", max_length=500, blank=True, help_text="Separated by spaces.")
    is_active = models.BooleanField("in use", default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def uses_openid(self) -> bool:
        """Whether it speaks OpenID Connect; GitHub has only OAuth."""
        return self.kind != self.Kind.GITHUB

    @property
    def domains(self) -> frozenset[str]:
        """The domains of newcomers, in lower case."""
        return frozenset(self.email_domains.lower().split())

    def clean(self) -> None:
        """Check what the kind of provider asks for.

        Raises:
            ValidationError: A sentence for each field that does not fit.
        """
        problems: dict[str, str] = {}
        if self.slug in TAKEN:
            problems["slug"] = "This name is taken by a page of the site."
        if self.kind != self.Kind.OPENID_CONNECT and self.slug != self.kind:
            problems["slug"] = f"For this kind the slug is {self.kind}."
        if self.kind == self.Kind.GOOGLE:
            self.issuer = GOOGLE_ISSUER
        elif self.kind == self.Kind.GITHUB:
            self.issuer = ""
        else:
            try:
                parse_http_url(self.issuer)
            except FlowError as error:
                problems["issuer"] = f"This is not a usable issuer: {error.detail or error.message}"
        if self.newcomers == self.Newcomers.DOMAINS and not self.domains:
            problems["email_domains"] = "Name at least one domain."
        if problems:
            raise ValidationError(problems)
