"""One attempt at an authorization, from the redirect to the answer."""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime

from django.conf import settings
from django.db import models

from connections.models import ClientRegistration, Connection
from connections.sealing import SealedTextField
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import StateError
from oauthflow.protocol.secret import Secret


def hash_of(secret: Secret | str) -> str:
    """Return the SHA-256, in hex, under which a state or a browser cookie is kept."""
    text = secret.reveal() if isinstance(secret, Secret) else secret
    return hashlib.sha256(text.encode()).hexdigest()


class AuthorizationRequestQuerySet(models.QuerySet["AuthorizationRequest"]):
    """Finding and claiming pending requests."""

    def with_state(self, state: str) -> AuthorizationRequest:
        """Return the request that was started with this state.

        Raises:
            StateError: The state is empty, malformed or unknown. S03.
        """
        well_formed = state.isascii() and 20 <= len(state) <= 512
        found = (
            self.filter(state_hash=hash_of(state)).select_related("connection__server", "user") if well_formed else None
        )
        request = found.first() if found is not None else None
        if request is None:
            raise StateError("no request was started with this state")
        return request

    def claim(self, request: AuthorizationRequest, *, now: datetime) -> None:
        """Take the request for the one callback that may finish it.

        Raises:
            StateError: It is used or expired. S04, S05.
        """
        claimed = self.filter(pk=request.pk, consumed_at__isnull=True, expires_at__gt=now).update(consumed_at=now)
        if claimed:
            request.consumed_at = now
            return
        current = self.filter(pk=request.pk).first()
        if current is None or current.consumed_at is None:
            raise StateError("the request is late", code=Code.STATE_EXPIRED)
        raise StateError("the request was finished before", code=Code.STATE_USED)

    def holding_tokens(self) -> AuthorizationRequestQuerySet:
        """Requests on which the tokens of another account wait for a decision, in time or late."""
        return self.filter(status=AuthorizationRequest.Status.PENDING, error_code=Code.ACCOUNT_CHANGED).select_related(
            "connection__server", "registration"
        )

    def over(self, *, before: datetime) -> AuthorizationRequestQuerySet:
        """Requests that ended or expired before that instant."""
        return self.filter(expires_at__lt=before)


class AuthorizationRequest(models.Model):
    """All that the callback needs, written down before the redirect: nothing is discovered again on the way back.

    `state` and the code verifier are sealed and erased when the request is claimed; the state is found by its hash.
    Spec: RFC 6749 §4.1.1, RFC 7636 §4.1, RFC 9207 §2.4. A-10.
    """

    class Status(models.TextChoices):
        PENDING = "pending"
        COMPLETED = "completed"
        FAILED = "failed"
        EXPIRED = "expired"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    connection = models.ForeignKey(Connection, models.CASCADE, related_name="authorization_requests")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    state_hash = models.CharField(max_length=64, unique=True)
    state_sealed = SealedTextField()
    code_verifier_sealed = SealedTextField()
    held_tokens_sealed = SealedTextField(
        db_default="", help_text="What was granted to another account than before, until somebody decides."
    )
    browser_hash = models.CharField(
        max_length=64, blank=True, help_text="Hash of the cookie of the browser it is bound to."
    )
    manual = models.BooleanField(default=False, help_text="Finished by paste or API, not by the browser's return.")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    error_code = models.CharField(max_length=40, blank=True)
    issuer = models.CharField(max_length=1000)
    iss_required = models.BooleanField(default=False)
    authorization_endpoint = models.CharField(max_length=1000)
    token_endpoint = models.CharField(max_length=1000)
    revocation_endpoint = models.CharField(max_length=1000, blank=True)
    client_id = models.CharField(max_length=500)
    auth_method = models.CharField(max_length=24)
    registration_method = models.CharField(max_length=20)
    registration: models.ForeignKey[ClientRegistration | None, ClientRegistration | None] = models.ForeignKey(
        ClientRegistration, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    redirect_uri = models.CharField(max_length=1000)
    resource = models.CharField(max_length=1000, blank=True, help_text="Empty: not sent.")
    dpop_jkt = models.CharField(
        max_length=43,
        blank=True,
        default="",
        db_default="",
        help_text="Thumbprint of the key that binds the code.",
    )
    scope = models.CharField(max_length=1000, blank=True)
    return_to = models.CharField(max_length=1024, blank=True)
    initiated_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    consumed_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    objects = AuthorizationRequestQuerySet.as_manager()

    class Meta:
        ordering = ("-initiated_at",)

    def __str__(self) -> str:
        return f"{self.connection} {self.status}"

    def status_at(self, now: datetime) -> str:
        """The status that a poller is told; a pending request that ran out is expired."""
        if self.status == self.Status.PENDING and self.expires_at <= now:
            return self.Status.EXPIRED
        return self.status

    def awaits_account_at(self, now: datetime) -> bool:
        """Whether somebody has to say which account of the service the connection is to use."""
        return self.status_at(now) == self.Status.PENDING and self.error_code == Code.ACCOUNT_CHANGED
