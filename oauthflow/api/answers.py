"""The refusals of every operation, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from audit.error_body import ERROR, REFUSED
from oauthflow.serializers import AuthorizationRequiredSerializer

REFUSALS: Final[dict[Any, Any]] = REFUSED | dict.fromkeys((422, 502, 503), ERROR)
CONFLICT: Final[dict[int, Any]] = {409: ERROR}
NEEDS_PERSON: Final[dict[int, Any]] = {409: AuthorizationRequiredSerializer}
