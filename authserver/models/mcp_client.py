"""A program that asks us for access."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import datetime

from django.db import models
from django.db.models import Q

from oauthflow.protocol.registration import RegistrationMethod
from oauthflow.protocol.secret import Secret

LONGEST_CLIENT_ID = 1000
LONGEST_NAME = 64


def new_client_secret() -> Secret:
    """Make a client secret or a registration access token from 256 random bits."""
    return Secret(secrets.token_urlsafe(32))


def hash_of_secret(secret: Secret) -> str:
    """Return the SHA-256 in hex. A slow hash buys nothing for 256 random bits."""
    return hashlib.sha256(secret.reveal().encode()).hexdigest()


class McpClientQuerySet(models.QuerySet["McpClient"]):
    """Reads of clients."""

    def usable(self, *, now: datetime) -> McpClientQuerySet:
        """Neither blocked nor ended nor expired."""
        return self.filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=now), blocked_at__isnull=True, ended_at__isnull=True
        )


class McpClient(models.Model):
    """A client of our authorization server: entered by an administrator, a metadata document, or registered by itself.

    Secrets are random and kept as hashes. A row that ended stays until no token of it can be good any more.
    """

    class Kind(models.TextChoices):
        PRE_REGISTERED = RegistrationMethod.PRE_REGISTERED.value, "Pre-registered"
        METADATA_DOCUMENT = RegistrationMethod.METADATA_DOCUMENT.value, "Metadata document"
        DYNAMIC = RegistrationMethod.DYNAMIC.value, "Registered itself"

    class AuthMethod(models.TextChoices):
        NONE = "none", "none (public client)"
        BASIC = "client_secret_basic", "client_secret_basic"
        POST = "client_secret_post", "client_secret_post"
        PRIVATE_KEY_JWT = "private_key_jwt", "private_key_jwt"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    client_id = models.CharField(
        max_length=LONGEST_CLIENT_ID,
        unique=True,
        editable=False,
        help_text="Random; the address of its document for a metadata document, and for nothing else.",
    )
    kind = models.CharField(max_length=20, choices=Kind.choices, default=Kind.PRE_REGISTERED, editable=False)
    name = models.CharField(max_length=LONGEST_NAME, blank=True)
    verified = models.BooleanField(
        default=False, help_text="You know who runs it, and that these redirect URIs are theirs."
    )
    redirect_uris = models.JSONField("redirect URIs", default=list, blank=True)
    token_endpoint_auth_method = models.CharField(
        "client authentication", max_length=24, choices=AuthMethod.choices, default=AuthMethod.NONE
    )
    client_secret_hash = models.CharField(max_length=64, blank=True, editable=False)
    jwks: models.JSONField[dict[str, object] | None, dict[str, object] | None] = models.JSONField(
        "public keys (JWKS)", null=True, blank=True
    )
    jwks_uri = models.CharField("address of its public keys", max_length=1000, blank=True)
    grant_types = models.JSONField(default=list, blank=True)
    scope = models.CharField(
        max_length=1000, blank=True, help_text="Space separated. Empty: whatever a person allows it."
    )
    client_uri = models.CharField("home page", max_length=1000, blank=True)
    registration_access_token_hash = models.CharField(max_length=64, blank=True, editable=False)
    document_hash = models.CharField(max_length=64, blank=True, editable=False)
    document_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False, db_index=True)
    expires_at = models.DateTimeField(null=True, blank=True, editable=False, db_index=True)
    blocked_at = models.DateTimeField(null=True, blank=True, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = McpClientQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        verbose_name = "client"
        constraints = (
            models.CheckConstraint(
                name="only_documents_have_a_url_as_client_id",
                condition=Q(kind="metadata_document", client_id__startswith="https://")
                | (~Q(kind="metadata_document") & ~Q(client_id__startswith="https://")),
            ),
            # A subject of ours begins like this: no program's token may be taken for a person's. RFC 9700 §4.15, AS19.
            models.CheckConstraint(
                name="no_client_id_looks_like_a_subject", condition=~Q(client_id__startswith="user:")
            ),
        )

    def __str__(self) -> str:
        return self.name or self.client_id

    @property
    def is_public(self) -> bool:
        """Whether it cannot keep a secret, so that PKCE alone protects its codes."""
        return self.token_endpoint_auth_method == self.AuthMethod.NONE

    def is_usable(self, *, now: datetime) -> bool:
        """Whether it is neither blocked nor ended nor expired."""
        expired = self.expires_at is not None and self.expires_at <= now
        return self.blocked_at is None and self.ended_at is None and not expired
