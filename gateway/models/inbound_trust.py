"""Whose tokens a server behind the gateway takes."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from connections.models import McpServer
from connections.sealing import SealedTextField
from gateway.callers.signed_token import ALGORITHMS
from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.scopes import parse_scope
from oauthflow.protocol.urls import parse_http_url

LONGEST_CACHE_SECONDS = 60
_URLS = ("issuer", "jwks_uri", "introspection_endpoint")


def usual_algorithms() -> list[str]:
    """What most issuers sign with."""
    return ["RS256", "PS256", "ES256", "EdDSA"]


class InboundTrust(models.Model):
    """Who may mint tokens for one server. A server without a row takes those of this site, and nothing else.

    `version` is another one after each change, so that nobody goes on by what was configured before.
    """

    class Kind(models.TextChoices):
        OWN = "own", "This site"
        ISSUER = "issuer", "Another issuer: signed tokens (JWT)"
        INTROSPECTION = "introspection", "Another issuer: asked about each token (introspection)"

    class Person(models.TextChoices):
        SUBJECT = "subject", "Subject: people who signed in here through this issuer"
        VERIFIED_EMAIL = "verified_email", "E-mail address that the issuer has verified"
        USERNAME = "username", "Claim that holds the user name here"

    server = models.OneToOneField(McpServer, models.CASCADE, primary_key=True, related_name="inbound_trust")
    kind = models.CharField("tokens come from", max_length=13, choices=Kind.choices, default=Kind.OWN)
    allow_api_tokens = models.BooleanField(
        "API tokens of this site",
        default=False,
        help_text="Scripts may call with a personal API token that has the scope tools:call.",
    )
    issuer = models.CharField(
        "issuer URL", max_length=500, blank=True, help_text="Exactly as its tokens and its metadata spell it."
    )
    audience = models.CharField(
        max_length=500, blank=True, help_text="What its tokens have as their audience. Empty: the gateway address."
    )
    scope = models.CharField(
        "scope needed", max_length=200, default="mcp:access", help_text="Space separated; all of them are needed."
    )
    broader_scope = models.CharField(
        "scopes that imply it",
        max_length=500,
        blank=True,
        help_text="Space separated; any of these is enough instead. No scope implies another by its spelling.",
    )
    person_by = models.CharField("people are known by", max_length=14, choices=Person.choices, default=Person.SUBJECT)
    username_claim = models.CharField(
        max_length=60,
        blank=True,
        validators=[RegexValidator(r"\A[\x21-\x7e]*\Z", "This is not the name of a claim.")],
        help_text="Only a claim that people cannot change themselves at the issuer.",
    )
    jwks_uri = models.CharField(
        "address of its keys", max_length=1000, blank=True, help_text="Empty: as the issuer's metadata says."
    )
    algorithms = models.JSONField(
        default=usual_algorithms, blank=True, help_text=f"A list, out of {', '.join(ALGORITHMS)}."
    )
    accept_plain_jwt = models.BooleanField(
        "accept tokens that are not marked as access tokens",
        default=False,
        help_text="For issuers that do not follow RFC 9068: typ is JWT or missing. "
        "Audience and scope alone then tell an access token from other tokens.",
    )
    introspection_endpoint = models.CharField(max_length=1000, blank=True)
    client_id = models.CharField("our client id there", max_length=500, blank=True)
    client_secret_sealed = SealedTextField()
    cache_seconds = models.PositiveSmallIntegerField(
        "answers are believed for (seconds)",
        default=15,
        validators=[MaxValueValidator(LONGEST_CACHE_SECONDS)],
        help_text="How late a revocation at the issuer may be noticed here; at most 60.",
    )
    version = models.UUIDField(default=uuid.uuid4, editable=False)

    class Meta:
        verbose_name = "rule for callers"
        verbose_name_plural = "rules for callers"
        constraints = (
            # A token for one server must not be good at another.
            models.UniqueConstraint(
                name="one_server_for_each_audience", fields=("issuer", "audience"), condition=~Q(audience="")
            ),
        )

    def __str__(self) -> str:
        return f"{self.server}: {self.get_kind_display()}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save as a new version."""
        self.version = uuid.uuid4()
        super().save(*args, **kwargs)

    @property
    def is_external(self) -> bool:
        """Whether tokens come from somebody else."""
        return self.kind != self.Kind.OWN

    def clean(self) -> None:
        """Check what depends on several fields; no network.

        Raises:
            ValidationError: A sentence for each field that does not fit.
        """
        problems = self._scope_problems()
        if self.is_external:
            problems |= self._issuer_problems() | self._url_problems()
        if self.kind == self.Kind.ISSUER and not self._has_known_algorithms():
            problems["algorithms"] = f"A list of at least one, out of {', '.join(ALGORITHMS)}."
        if self.kind == self.Kind.INTROSPECTION:
            for field in ("introspection_endpoint", "client_id"):
                if not getattr(self, field):
                    problems[field] = "The issuer is asked about each token; this is needed for it."
        if problems:
            raise ValidationError(problems)

    def _issuer_problems(self) -> dict[str, str]:
        problems = {}
        if not self.issuer:
            problems["issuer"] = "Tokens of another issuer need its name."
        elif self.issuer == settings.PUBLIC_URL:
            problems["issuer"] = "That is this site itself."
        if self.audience.startswith(f"{settings.PUBLIC_URL}/"):
            problems["audience"] = (
                "Leave it empty for the gateway address; other addresses here have tokens of their own."
            )
        if self.person_by == self.Person.USERNAME and not self.username_claim:
            problems["username_claim"] = "Say which claim holds the user name."
        return problems

    def _url_problems(self) -> dict[str, str]:
        problems = {}
        for field in _URLS:
            try:
                if value := getattr(self, field):
                    parse_http_url(value)
            except FlowError as error:
                # The address itself is not repeated: people paste passwords in them.
                problems[field] = f"This is not a usable address: {error.detail or error.message}"
        return problems

    def _scope_problems(self) -> dict[str, str]:
        problems = {}
        for field in ("scope", "broader_scope"):
            try:
                parse_scope(getattr(self, field))
            except FlowError as error:
                problems[field] = f"These scopes are not valid: {error.detail or error.message}"
        if not self.scope.strip():
            problems["scope"] = "A token without any scope is good for nothing here; name one."
        elif "offline_access" in self.scope.split():
            problems["scope"] = "offline_access is between a program and its issuer; no call needs it."
        return problems

    def _has_known_algorithms(self) -> bool:
        listed = self.algorithms
        return isinstance(listed, list) and bool(listed) and all(name in ALGORITHMS for name in listed)
