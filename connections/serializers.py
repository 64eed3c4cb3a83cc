"""Servers as REST shows and takes them. Secrets go in and never come out. L05, L06."""

from __future__ import annotations

import json
from typing import Any, Final

from django.contrib.auth.models import Group, User
from rest_framework import serializers

from oauthflow.protocol.secret import Secret

from .models import McpServer
from .refusals import refuse_unknown

SECRET_FIELDS: Final = ("client_secret", "client_private_key", "assertion", "static_credential", "environment")

_SHOWN_TO_EVERYBODY: Final = (
    "name", "slug", "description", "url", "transport", "auth_type", "grant_type", "issuer", "scopes",
    "connection_policy", "gateway_enabled", "status", "documentation_url",
)  # fmt: skip
_SETTINGS: Final = (
    "name", "slug", "description", "url", "transport", "auth_type", "issuer", "authorization_endpoint",
    "token_endpoint", "revocation_endpoint", "accepted_issuer", "assume_pkce", "scopes", "metadata_ttl_minutes",
    "client_id", "token_endpoint_auth_method", "registration", "grant_type", "identity_provider", "assertion_source",
    "dpop_bound_access_tokens", "profile", "resource_mode", "resource", "header_name", "command", "arguments",
    "connection_policy", "users", "groups", "gateway_enabled", "request_timeout_seconds", "status",
    "documentation_url",
)  # fmt: skip


class ServerSummarySerializer(serializers.ModelSerializer[McpServer]):
    """What everybody who may use a server sees of it."""

    class Meta:
        model = McpServer
        fields = _SHOWN_TO_EVERYBODY
        read_only_fields = _SHOWN_TO_EVERYBODY


class ServerSerializer(serializers.ModelSerializer[McpServer]):
    """The whole configuration of a server, for those who may see and change it.

    Checks the shape of fields only; whether they fit together is decided by `server_changes`.
    """

    users = serializers.SlugRelatedField(slug_field="username", many=True, queryset=User.objects.all(), required=False)
    groups = serializers.SlugRelatedField(slug_field="name", many=True, queryset=Group.objects.all(), required=False)
    identity_provider = serializers.SlugRelatedField(
        slug_field="slug", queryset=McpServer.objects.all(), required=False, allow_null=True
    )
    arguments = serializers.ListField(child=serializers.CharField(allow_blank=True, max_length=4000), required=False)
    client_secret = serializers.CharField(
        write_only=True, required=False, allow_blank=True, max_length=4000, trim_whitespace=False
    )
    client_private_key = serializers.CharField(
        write_only=True, required=False, allow_blank=True, max_length=4000, trim_whitespace=False,
        help_text="P-256, PEM or JWK; signs assertions for private_key_jwt in place of the site's own key.",
    )  # fmt: skip
    assertion = serializers.CharField(
        write_only=True, required=False, allow_blank=True, max_length=16384,
        help_text="A JWT of the platform, where it is not read from `assertion_source`.",
    )  # fmt: skip
    static_credential = serializers.CharField(
        write_only=True, required=False, allow_blank=True, max_length=16000, trim_whitespace=False
    )
    environment = serializers.DictField(
        child=serializers.CharField(allow_blank=True, max_length=16000, trim_whitespace=False),
        write_only=True,
        required=False,
    )
    client_secret_set = serializers.SerializerMethodField()
    client_private_key_set = serializers.SerializerMethodField()
    assertion_set = serializers.SerializerMethodField()
    static_credential_set = serializers.SerializerMethodField()
    environment_set = serializers.SerializerMethodField()

    class Meta:
        model = McpServer
        fields = (*_SETTINGS, *SECRET_FIELDS, *(f"{name}_set" for name in SECRET_FIELDS))

    def get_client_secret_set(self, server: McpServer) -> bool:
        """Say whether a fallback client secret is stored."""
        return bool(server.client_secret_sealed)

    def get_client_private_key_set(self, server: McpServer) -> bool:
        """Say whether a private key of the fallback client is stored."""
        return bool(server.client_private_key_sealed)

    def get_assertion_set(self, server: McpServer) -> bool:
        """Say whether a platform's JWT is stored."""
        return bool(server.assertion_sealed)

    def get_static_credential_set(self, server: McpServer) -> bool:
        """Say whether a fixed token or header value is stored."""
        return bool(server.static_credential_sealed)

    def get_environment_set(self, server: McpServer) -> bool:
        """Say whether environment variables for a local program are stored."""
        return bool(server.environment_sealed)

    def to_internal_value(self, data: Any) -> Any:
        refuse_unknown(data, known=[name for name, field in self.fields.items() if not field.read_only])
        return super().to_internal_value(data)


def set_fields(server: McpServer, values: dict[str, Any]) -> None:
    """Put validated values into an instance; secrets are sealed, an empty one is erased.

    Args:
        server: Changed in place, not saved.
        values: By field name of `ServerSerializer`; `users` and `groups` are left out.
    """
    for name, value in values.items():
        if name in SECRET_FIELDS:
            set_secret(server, name, value)
        elif name not in {"users", "groups"}:
            setattr(server, name, value)


def set_secret(server: McpServer, name: str, value: str | dict[str, str]) -> None:
    """Seal one secret of a server; an empty one is erased.

    Args:
        server: Changed in place, not saved.
        name: One of `SECRET_FIELDS`.
        value: Text, or for `environment` the variables, kept as one JSON object.
    """
    text = json.dumps(value, sort_keys=True) if isinstance(value, dict) and value else value or ""
    setattr(server, f"{name}_sealed", Secret(str(text)) if text else "")
