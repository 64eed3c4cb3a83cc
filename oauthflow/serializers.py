"""Shapes of what REST takes and gives. No rule of the trade is decided here, and no shape but one has a token in it."""

from __future__ import annotations

from typing import Any, Final

from rest_framework import serializers

from connections.models import Connection
from connections.models.flow_trace import FlowTrace
from connections.refusals import refuse_unknown
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.unattended import LONGEST_ASSERTION, SubjectTokenType

_LONGEST_STATE: Final = 512
_LONGEST_CODE: Final = 4096


class StrictSerializer(serializers.Serializer[Any]):
    """A shape that refuses what it does not know instead of dropping it. Z03."""

    def to_internal_value(self, data: Any) -> Any:
        refuse_unknown(data, known=self.fields)
        return super().to_internal_value(data)


class AuthorizationRequiredSerializer(serializers.Serializer[Any]):
    """The refusal of an operation that needs a person first."""

    error = serializers.CharField()
    message = serializers.CharField()
    retryable = serializers.BooleanField()
    requires_reauthorization = serializers.BooleanField()
    correlation_id = serializers.CharField()
    authorization_url = serializers.CharField(required=False)
    state = serializers.CharField(required=False)
    expires_at = serializers.DateTimeField(required=False)


class ConnectionSerializer(serializers.ModelSerializer[Connection]):
    """A connection as it is shown: never its tokens."""

    server = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    user = serializers.SlugRelatedField[Any](slug_field="username", read_only=True, allow_null=True)
    token_expires_at = serializers.DateTimeField(
        source="tokens.expires_at", read_only=True, default=None, allow_null=True
    )

    class Meta:
        model = Connection
        fields = (
            "id", "server", "label", "user", "status", "reason", "requested_scopes", "granted_scopes",
            "token_expires_at", "last_refreshed_at", "last_used_at", "issuer", "registration_method",
        )  # fmt: skip
        read_only_fields = fields


class ConnectionListSerializer(serializers.Serializer[Any]):
    """All connections that the caller sees."""

    results = ConnectionSerializer(many=True)


class NewConnectionSerializer(StrictSerializer):
    """Which server, and a label where a person has several accounts there."""

    server = serializers.CharField(max_length=80, help_text="Slug of the server.")
    subject_token = serializers.CharField(
        max_length=LONGEST_ASSERTION,
        required=False,
        help_text="For enterprise-managed access: who the person is at the company's sign-in service. Kept sealed.",
    )
    subject_token_type = serializers.ChoiceField(
        choices=[(kind.value, kind.value) for kind in SubjectTokenType],
        required=False,
        default=SubjectTokenType.ID_TOKEN.value,
    )

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # Not as an attribute of the class: every serializer has a label of its own.
        return {
            **super().get_fields(),
            "label": serializers.CharField(max_length=80, required=False, allow_blank=True, default=""),
        }


class ConnectionStatusSerializer(serializers.Serializer[Any]):
    """How a connection stands."""

    connection_id = serializers.UUIDField()
    is_oauth_enabled = serializers.BooleanField()
    has_valid_tokens = serializers.BooleanField()
    is_access_token_expired = serializers.BooleanField()
    token_expires_at = serializers.DateTimeField(allow_null=True)
    has_refresh_token = serializers.BooleanField()
    requires_reauthorization = serializers.BooleanField()
    reauthorization_reason = serializers.CharField()
    issuer_url = serializers.CharField()
    granted_scopes = serializers.CharField()


class NothingSerializer(StrictSerializer):
    """An empty object, or no body at all."""


class ReasonSerializer(StrictSerializer):
    """Why a connection is given up, in the caller's words."""

    reason = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


class ReleasedTokenSerializer(serializers.Serializer[Any]):
    """A usable access token: the one answer with a secret in it."""

    access_token = serializers.CharField()
    token_type = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)
    scope = serializers.CharField()
    resource = serializers.CharField()


class RequestToProveSerializer(StrictSerializer):
    """One request that a client is about to send with a token that is bound to a key."""

    method = serializers.ChoiceField(choices=("GET", "POST", "DELETE"))
    url = serializers.CharField(max_length=4096, help_text="The server's address, or one below it.")
    nonce = serializers.CharField(
        max_length=1024, required=False, allow_blank=True, default="", help_text="`DPoP-Nonce` of its last answer."
    )


class ProofSerializer(serializers.Serializer[Any]):
    """The value of the `DPoP` header for that one request."""

    proof = serializers.CharField()


class ChallengeSerializer(StrictSerializer):
    """What a client met at the MCP server."""

    status = serializers.IntegerField(min_value=400, max_value=499)
    www_authenticate = serializers.CharField(max_length=8192, allow_blank=True, default="")


class ChallengeAnswerSerializer(serializers.Serializer[Any]):
    """What the client should do about it."""

    action = serializers.ChoiceField(choices=("retry", "authorize", "give_up"))
    authorization_url = serializers.CharField(required=False)
    state = serializers.CharField(required=False)
    expires_at = serializers.DateTimeField(required=False)


class ToolListSerializer(serializers.Serializer[Any]):
    """Tools as the MCP server lists them."""

    tools = serializers.ListField(child=serializers.DictField())


class ToolCallSerializer(StrictSerializer):
    """The arguments of one call."""

    arguments = serializers.DictField(required=False, default=dict)


class InitiateSerializer(StrictSerializer):
    """Which connection to authorize: by its id, or by server where the caller's own is meant."""

    connection_id = serializers.UUIDField(required=False)
    server = serializers.CharField(max_length=80, required=False)
    additional_scopes = serializers.CharField(max_length=1000, required=False, allow_blank=True, default="")
    return_to = serializers.CharField(
        max_length=1024, required=False, allow_blank=True, default="", trim_whitespace=False
    )
    manual = serializers.BooleanField(required=False, default=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("connection_id" in attrs) == ("server" in attrs):
            raise serializers.ValidationError("Name either connection_id or server.")
        return attrs


class StartedSerializer(serializers.Serializer[Any]):
    """An authorization that waits for a person."""

    authorization_url = serializers.CharField()
    state = serializers.CharField()
    expires_at = serializers.DateTimeField()
    used_dynamic_registration = serializers.BooleanField()
    registration_method = serializers.CharField()


class AuthorizationStatusSerializer(serializers.Serializer[Any]):
    """How an authorization stands."""

    status = serializers.ChoiceField(choices=AuthorizationRequest.Status.choices)
    connection_id = serializers.UUIDField()
    initiated_at = serializers.DateTimeField()
    completed_at = serializers.DateTimeField(allow_null=True)
    error_code = serializers.CharField()
    error_message = serializers.CharField()
    is_retryable = serializers.BooleanField()


class CompleteSerializer(StrictSerializer):
    """What the authorization server sent back: the code, or the whole redirect address; or the decision after it."""

    state = serializers.CharField(max_length=_LONGEST_STATE)
    code = serializers.CharField(max_length=_LONGEST_CODE, required=False)
    redirect_url = serializers.CharField(max_length=2 * _LONGEST_CODE, required=False)
    iss = serializers.CharField(max_length=1000, required=False, trim_whitespace=False)
    confirm_account = serializers.BooleanField(
        required=False,
        help_text="After `account_changed`: true uses the new account, false keeps the old one and revokes the new.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len({"code", "redirect_url", "confirm_account"} & attrs.keys()) != 1:
            raise serializers.ValidationError("Send one of code, redirect_url and confirm_account.")
        if "iss" in attrs and "code" not in attrs:
            raise serializers.ValidationError("iss goes with code; a redirect_url carries its own.")
        return attrs


class FlowTraceSerializer(serializers.ModelSerializer[FlowTrace]):
    """What was tried against a server, step by step."""

    class Meta:
        model = FlowTrace
        fields = ("ok", "code", "verdict", "steps", "correlation_id", "created_at")
        read_only_fields = fields
