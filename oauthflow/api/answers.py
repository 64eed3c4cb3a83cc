"""The refusals of every operation, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import inline_serializer
from rest_framework import serializers

from oauthflow.serializers import AuthorizationRequiredSerializer

_ERROR: Final = inline_serializer(
    "Error",
    {
        "error": serializers.CharField(help_text="A stable code."),
        "message": serializers.CharField(help_text="One sentence for a person."),
        "retryable": serializers.BooleanField(help_text="Whether the same call may succeed later."),
        "requires_reauthorization": serializers.BooleanField(help_text="Whether only a new sign-in resolves it."),
        "correlation_id": serializers.CharField(help_text="Finds the log lines and audit records of this call."),
        "fields": serializers.DictField(required=False, help_text="What is wrong with the body, field by field."),
    },
)

REFUSALS: Final[dict[int, Any]] = dict.fromkeys((400, 401, 403, 404, 422, 502, 503), _ERROR)
CONFLICT: Final[dict[int, Any]] = {409: _ERROR}
NEEDS_PERSON: Final[dict[int, Any]] = {409: AuthorizationRequiredSerializer}
