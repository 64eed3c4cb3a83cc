"""Who takes our tokens besides this site itself, and programs that act without a person."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models

from connections.models import McpServer
from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.scopes import parse_scope
from oauthflow.protocol.urls import parse_http_url

from .mcp_client import McpClient

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class ProtectedResource(models.Model):
    """Somebody else's MCP server that uses us as its authorization server.

    `id` is also the name under which it asks the introspection endpoint; the secret is random and kept as a hash.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80)
    resource = models.CharField(
        "resource identifier", max_length=1000, unique=True, help_text="The address that its clients use, exactly."
    )
    scopes = models.JSONField(
        default=dict, blank=True, help_text='What it knows: {"notes:read": "Read your notes"}, shown to people.'
    )
    secret_hash = models.CharField(max_length=64, blank=True, editable=False)
    is_active = models.BooleanField("active", default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Check the address and the scopes; no network."""
        problems = {}
        try:
            parse_http_url(self.resource)
        except FlowError as error:
            problems["resource"] = f"This is not a usable address: {error.detail or error.message}"
        if "#" in self.resource or self.resource.startswith(f"{settings.PUBLIC_URL}/"):
            problems["resource"] = "A resource of somebody else: no fragment, and not on this site."
        words = self.scopes
        if not isinstance(words, dict) or not all(isinstance(word, str) and word for word in words.values()):
            problems["scopes"] = "Each scope needs a few words that people understand."
        else:
            try:
                if parse_scope(" ".join(words)) != set(words):
                    problems["scopes"] = "A scope holds no space."
            except FlowError as error:
                problems["scopes"] = f"These scopes are not valid: {error.detail or error.message}"
        if problems:
            raise ValidationError(problems)


class ServiceAccount(models.Model):
    """A client that an administrator allows to act by itself (`client_credentials`).

    Its tokens carry the client's id as their subject. What it does here, it does with the rights of `user`.
    """

    client = models.OneToOneField(McpClient, models.CASCADE, primary_key=True, related_name="service_account")
    user: models.ForeignKey[User | None, User | None] = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="service_accounts"
    )
    resources = models.JSONField(default=list, blank=True, help_text="Addresses of the resources it may ask for.")

    def __str__(self) -> str:
        return str(self.client)


class ExchangePolicy(models.Model):
    """Allows a trusted back end to exchange its callers' tokens for their upstream tokens of one server. RFC 8693."""

    client = models.ForeignKey(McpClient, models.CASCADE, related_name="exchange_policies")
    subject_resource = models.CharField(
        max_length=1000, help_text="The resource that the exchanged tokens are for: the back end's own address."
    )
    server = models.ForeignKey(McpServer, models.CASCADE, related_name="exchange_policies")

    class Meta:
        verbose_name_plural = "exchange policies"
        constraints = (
            models.UniqueConstraint(fields=("client", "subject_resource", "server"), name="one_policy_each"),
        )

    def __str__(self) -> str:
        return f"{self.client}: {self.subject_resource} to {self.server}"
