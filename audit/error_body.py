"""The body of every refusal of the REST interface, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import inline_serializer
from rest_framework import serializers

ERROR: Final = inline_serializer(
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
REFUSED: Final[dict[Any, Any]] = dict.fromkeys((400, 401, 403, 404), ERROR)
"""Of an operation that asks nobody else."""
