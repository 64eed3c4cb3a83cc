"""Every event that the audit record knows. Public contract, section 8."""

from __future__ import annotations

from django.db import models


class AuditEvent(models.TextChoices):
    """`subject.action`; a name that was ever recorded is never reused for something else."""

    AUTHORIZATION_INITIATED = "authorization.initiated"
    AUTHORIZATION_COMPLETED = "authorization.completed"
    AUTHORIZATION_FAILED = "authorization.failed"
    CALLBACK_REJECTED = "callback.rejected"
    TOKEN_REFRESHED = "token.refreshed"
    TOKEN_REFRESH_FAILED = "token.refresh_failed"
    TOKEN_RELEASED = "token.released"
    CREDENTIALS_REVOKED = "credentials.revoked"
    REAUTHORIZATION_REQUIRED = "reauthorization.required"
    CLIENT_REGISTERED = "client.registered"
    CLIENT_REGISTRATION_FAILED = "client.registration_failed"
    ISSUER_CHANGED = "issuer.changed"
    ISSUER_APPROVED = "issuer.approved"
    SERVER_CREATED = "server.created"
    SERVER_CHANGED = "server.changed"
    SERVER_DELETED = "server.deleted"
    EGRESS_BLOCKED = "egress.blocked"
    WEBHOOK_CHANGED = "webhook.changed"
    CONSENT_GRANTED = "consent.granted"
    CONSENT_DENIED = "consent.denied"
    CLIENT_GRANT_REVOKED = "client_grant.revoked"
    REFRESH_REUSE_DETECTED = "refresh.reuse_detected"
    TOOL_CALLED = "tool.called"
    TOOL_CHANGED = "tool.changed"
    TOOL_APPROVED = "tool.approved"
    POLICY_CHANGED = "policy.changed"
    KEY_ROTATED = "key.rotated"
    LOGIN_FAILED = "login.failed"
    AUDIT_EXPORTED = "audit.exported"
