"""Refusals of the configuration interface that have a code of their own. Public contract, section 4."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rest_framework.exceptions import APIException
from rest_framework.response import Response

from audit.correlation import correlation_id


class RefusalError(APIException):
    """A refusal that says its own sentence: it names fields or consequences and repeats nothing else.

    The exception handler of the REST interface answers it with `response()`.
    """

    def response(self) -> Response:
        """Return the answer in the contract's form."""
        body = {
            "error": self.default_code,
            "message": str(self.detail),
            "retryable": False,
            "requires_reauthorization": False,
            "correlation_id": correlation_id(),
            **self.members(),
        }
        return Response(body, status=self.status_code, headers={"Cache-Control": "no-store"}, exception=True)

    def members(self) -> dict[str, object]:
        """Return what the answer holds besides the contract's members."""
        return {}


class UnknownFieldError(RefusalError):
    """The request names fields that do not exist or that nobody sets. Z03."""

    status_code = 400
    default_code = "unknown_field"

    def __init__(self, fields: Collection[str]) -> None:
        self.fields = sorted(str(field)[:60].encode(errors="replace").decode() for field in fields)[:50]
        super().__init__(f"These fields are unknown or read-only: {', '.join(self.fields)}.")

    def members(self) -> dict[str, object]:
        return {"fields": {field: ["Unknown or read-only."] for field in self.fields}}


class ConfirmationMissingError(RefusalError):
    """The change hits existing connections; the same call with `?confirm=<slug>` goes through."""

    status_code = 409
    default_code = "confirmation_required"

    def __init__(self, impact: str, *, slug: str) -> None:
        self.slug = slug
        super().__init__(f"{impact} Repeat the call with ?confirm={slug} if that is meant.")

    def members(self) -> dict[str, object]:
        return {"confirm": self.slug}


def refuse_unknown(data: Any, *, known: Collection[str]) -> None:
    """Refuse an object that names a field which is not known; anything but an object is left to the serializer.

    Raises:
        UnknownFieldError: It does.
    """
    if isinstance(data, dict) and (unknown := set(data) - set(known)):
        raise UnknownFieldError(unknown)
