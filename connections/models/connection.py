"""One person's, or one shared, grant for one MCP server, and its tokens."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models
from django.db.models import Case, F, Q, When
from django.db.models.functions import Now

from oauthflow.protocol.grant_types import GrantType
from oauthflow.protocol.registration import RegistrationMethod

from ..sealing import SealedTextField
from .client_registration import ClientRegistration
from .mcp_server import McpServer
from .quick_rows import QuickRows

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django_stubs_ext import WithAnnotations


class ConnectionQuerySet(models.QuerySet["Connection"]):
    """Reads of connections, as sentences."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> ConnectionQuerySet:
        """The user's own, and shared ones of servers that the user may use."""
        servers = McpServer.objects.usable_by(user)
        mine = Q(user__isnull=False, user=user) if user.is_authenticated else Q(pk__in=[])
        return self.filter(mine | Q(user__isnull=True, server__in=servers)).select_related("server", "user")

    def usable_by(self, user: AbstractBaseUser | AnonymousUser) -> ConnectionQuerySet:
        """Visible ones of servers that are open to the user now; shared ones only where the server still shares."""
        put_aside = Q(user__isnull=True, server__connection_policy=McpServer.ConnectionPolicy.PERSONAL)
        return self.visible_to(user).filter(server__in=McpServer.objects.usable_by(user)).exclude(put_aside)

    def due_for_refresh(self, *, now: datetime) -> ConnectionQuerySet:
        """Connections whose tokens should be renewed by now and are not in a pause after a failure.

        None of people who were deactivated: what they granted is not used. Z06.
        """
        served = Q(user__isnull=True) | Q(user__is_active=True)
        rested = Q(tokens__next_attempt_at__isnull=True) | Q(tokens__next_attempt_at__lte=now)
        return self.filter(
            rested,
            served,
            status__in=Connection.WORKING,
            tokens__refresh_due_at__lte=now,
        ).select_related("server")


class Connection(QuickRows):
    """A link between a user (none: shared by all who may use the server) and an MCP server."""

    class Status(models.TextChoices):
        PENDING = "pending", "Not connected"
        ACTIVE = "active", "Connected"
        DEGRADED = "degraded", "Connected, with trouble"
        REAUTH_REQUIRED = "reauth_required", "Reconnect needed"
        REVOKED = "revoked", "Disconnected"
        KEY_UNAVAILABLE = "key_unavailable", "Stored credential unreadable"
        ISSUER_CHANGED = "issuer_changed", "Sign-in service changed"

    WORKING = (Status.ACTIVE, Status.DEGRADED)
    """The statuses in which the access is used and renewed."""
    UNCONNECTED = (Status.PENDING, Status.REVOKED)
    """Those in which there is nothing to disconnect."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    server = models.ForeignKey(McpServer, models.CASCADE, related_name="connections")
    user: models.ForeignKey[User | None, User | None] = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="mcp_connections"
    )
    label = models.CharField(max_length=80, blank=True)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.PENDING, db_index=True)
    reason = models.CharField(max_length=200, blank=True, help_text="Why it is not simply connected: one of our codes.")
    requested_scopes = models.CharField(max_length=1000, blank=True)
    granted_scopes = models.CharField(max_length=1000, blank=True)
    issuer = models.CharField(max_length=1000, blank=True)
    upstream_subject = models.CharField(
        max_length=255,
        blank=True,
        default="",
        db_default="",
        help_text="The account there: the `sub` of that issuer; empty: not known.",
    )
    registration_method = models.CharField(
        max_length=20, blank=True, choices=[(method.value, method.value) for method in RegistrationMethod]
    )
    dpop_key_sealed = SealedTextField(db_default="", help_text="Its own key, where tokens are bound to one (RFC 9449).")
    subject_token_sealed = SealedTextField(
        db_default="", help_text="Given by a program: who the person is at the company's sign-in service."
    )
    subject_token_type = models.CharField(max_length=60, blank=True, default="", db_default="")
    connected_at = models.DateTimeField(null=True, blank=True, help_text="When somebody last signed in for it.")
    last_refreshed_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ConnectionQuerySet.as_manager()

    class Meta:
        ordering = ("server__name", "label")
        permissions = (("manage_shared_connection", "Can connect and disconnect shared connections"),)
        constraints = (
            models.UniqueConstraint(
                fields=("server", "user", "label"), condition=Q(user__isnull=False), name="one_label_for_a_user"
            ),
            models.UniqueConstraint(
                fields=("server", "label"), condition=Q(user__isnull=True), name="one_label_when_shared"
            ),
        )

    def __str__(self) -> str:
        return f"{self.server.slug} {self.label}".strip()

    @property
    def is_shared(self) -> bool:
        """Whether everybody who may use the server uses this grant."""
        return self.user_id is None

    @property
    def token_set(self) -> TokenSet | None:
        """The stored tokens, or None."""
        return TokenSet.objects.filter(connection=self).first()


NOT_RENEWABLE = Q(refresh_token_sealed="", grant_type=GrantType.AUTHORIZATION_CODE.value)
"""Of token sets: those that end for good when they end."""
RENEWABLE_FOR_A_WHILE = ~Q(refresh_token_sealed="") & Q(refresh_end_known_since__lt=F("obtained_at"))
"""Those that were renewed, and whose refresh token ends at `refresh_ends_at` all the same."""


class LastEnd(TypedDict):
    """What `ending_for_good` adds to each row; aware UTC."""

    last_end: datetime
    last_end_known_since: datetime


class TokenSetQuerySet(models.QuerySet["TokenSet"]):
    """Reads of token sets."""

    def unleased(self, *, dead_owners: Collection[str] = ()) -> TokenSetQuerySet:
        """Those that nobody alive is refreshing at this moment, by the database's clock."""
        is_over = Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lte=Now())
        return self.filter(is_over | Q(lease_owner__in=dead_owners))

    def ending_for_good(self, *, after: datetime) -> models.QuerySet[WithAnnotations[TokenSet, LastEnd]]:
        """Those that end after that unless somebody signs in again: with `last_end`, and since when it is known."""
        ends = Case(When(NOT_RENEWABLE, then="expires_at"), When(RENEWABLE_FOR_A_WHILE, then="refresh_ends_at"))
        since = Case(When(NOT_RENEWABLE, then="obtained_at"), default="refresh_end_known_since")
        annotated: Any = self.annotate(last_end=ends, last_end_known_since=since)
        found: models.QuerySet[WithAnnotations[TokenSet, LastEnd]] = annotated.filter(last_end__gt=after)
        return found

    def awaiting_refresh(self, *, now: datetime) -> TokenSetQuerySet:
        """Of renewable ones, those that are due and not in a pause, and those that somebody left in the middle."""
        rested = Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now)
        return self.exclude(NOT_RENEWABLE).filter(~Q(lease_owner="") | Q(rested, refresh_due_at__lte=now))


class TokenSet(QuickRows):
    """The tokens of one connection, and all that a refresh needs without asking anybody.

    Sealed values are bound to the connection and to `generation`, which every write increases: neither a value of
    another row nor an older value of this row opens. Written by `connections.services` only.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    connection = models.OneToOneField(Connection, models.CASCADE, related_name="tokens")
    generation = models.PositiveBigIntegerField(default=1)
    access_token_sealed = SealedTextField(bound_to=("connection_id", "generation"))
    refresh_token_sealed = SealedTextField(bound_to=("connection_id", "generation"))
    token_type = models.CharField(max_length=20, default="Bearer")
    wanted_token_type = models.CharField(
        max_length=20,
        blank=True,
        default="",
        db_default="",
        help_text="Of which type the next one is to be, whatever this one is; empty: of the same.",
    )
    scope = models.CharField(max_length=1000, blank=True)
    obtained_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True, db_index=True, help_text="Empty: no lifetime was given.")
    refresh_due_at = models.DateTimeField(
        null=True, blank=True, db_index=True, help_text="When the background renews it; empty: never."
    )
    refresh_ends_at = models.DateTimeField(
        null=True, blank=True, help_text="When the refresh token ends; empty: the service did not say."
    )
    refresh_end_known_since = models.DateTimeField(
        null=True, blank=True, help_text="Since when it was to end then: renewing may put the end off, or not."
    )
    issuer = models.CharField(max_length=1000)
    token_endpoint = models.CharField(max_length=1000)
    revocation_endpoint = models.CharField(max_length=1000, blank=True)
    resource = models.CharField(max_length=1000, blank=True, help_text="As sent; empty: not sent.")
    grant_type = models.CharField(
        max_length=24,
        choices=[(grant.value, grant.value) for grant in GrantType],
        default=GrantType.AUTHORIZATION_CODE.value,
        db_default=GrantType.AUTHORIZATION_CODE.value,
    )
    client_id = models.CharField(max_length=500)
    auth_method = models.CharField(max_length=24)
    registration: models.ForeignKey[ClientRegistration | None, ClientRegistration | None] = models.ForeignKey(
        ClientRegistration, models.SET_NULL, null=True, blank=True, related_name="token_sets"
    )
    lease_owner = models.CharField(max_length=36, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    refresh_failures = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)

    objects = TokenSetQuerySet.as_manager()

    class Meta:
        indexes = (
            models.Index(fields=("issuer",), condition=Q(lease_expires_at__isnull=False), name="issuers_of_leases"),
        )

    def __str__(self) -> str:
        return f"tokens of {self.connection_id}, generation {self.generation}"

    @property
    def is_unattended(self) -> bool:
        """Whether they came, and come again, without a person."""
        return GrantType(self.grant_type).is_unattended

    @property
    def asked_token_type(self) -> str:
        """Of which type the next token is to be."""
        return self.wanted_token_type or self.token_type

    @property
    def is_renewable(self) -> bool:
        """Whether new tokens can be had without a person."""
        return bool(self.refresh_token_sealed) or self.is_unattended

    @property
    def renews_until(self) -> datetime | None:
        """When renewing ends, where the service named an end that renewing does not put off."""
        since = self.refresh_end_known_since
        return self.refresh_ends_at if since is not None and since < self.obtained_at else None
