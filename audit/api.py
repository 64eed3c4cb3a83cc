"""The audit record over REST: look, filter, take away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from .error_body import REFUSED
from .events import AuditEvent
from .exports import RENDERERS
from .models import AuditRecord
from .record import record

SCOPE: Final = "audit:read"
_PAGE: Final = 100
_LONGEST_PAGE: Final = 1000
_EXPORT: Final = 10_000


class HoldsAuditScope(BasePermission):
    """Allows a person's own session, and a token that lists `audit:read`."""

    code = "insufficient_scope"
    message = f"This call needs an API token with the scope {SCOPE}."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.auth is None:
            return request.user.is_authenticated
        scopes = getattr(request.auth, "scopes", None)
        return isinstance(scopes, list) and SCOPE in scopes


class AuditRecordSerializer(serializers.ModelSerializer[AuditRecord]):
    """A record without the codes of the chain, which only the verifier needs."""

    class Meta:
        model = AuditRecord
        fields = (
            "sequence", "at", "event", "actor", "server", "connection", "client", "reason", "correlation_id", "details",
        )  # fmt: skip
        read_only_fields = fields


class AuditPageSerializer(serializers.Serializer[Any]):
    """Newest first; `next_cursor` is null on the last page."""

    results = AuditRecordSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class AuditFilterSerializer(serializers.Serializer[Any]):
    """Which records are wanted; `since` and `until` are called `from` and `to` in the address."""

    event = serializers.ChoiceField(choices=AuditEvent.choices, required=False)
    user = serializers.CharField(max_length=64, required=False)
    connection = serializers.UUIDField(required=False)
    server = serializers.CharField(max_length=80, required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)
    cursor = serializers.IntegerField(min_value=1, required=False)
    limit = serializers.IntegerField(min_value=1, max_value=_LONGEST_PAGE, required=False)


_IN_ADDRESS: Final = {"from": "since", "to": "until"}
_COLUMN: Final = {
    "event": "event", "user": "actor", "connection": "connection", "server": "server",
    "since": "at__gte", "until": "at__lt", "cursor": "sequence__lt",
}  # fmt: skip
_PARAMETERS: Final = [
    OpenApiParameter("event", str, enum=AuditEvent.values),
    OpenApiParameter("user", str, description="Id of the user who acted, or `system`."),
    OpenApiParameter("connection", str, description="Id of a connection."),
    OpenApiParameter("server", str, description="Slug of a server."),
    OpenApiParameter("from", str, description="ISO 8601; this instant and later."),
    OpenApiParameter("to", str, description="ISO 8601; before this instant."),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
    OpenApiParameter("limit", int, description=f"At most {_LONGEST_PAGE}; {_PAGE} unless told, {_EXPORT} in a file."),
    OpenApiParameter("format", str, enum=["json", "csv", "jsonl"]),
]


class AuditEventsView(APIView):
    """Everybody sees what they did themselves; whoever holds `audit.view_auditrecord` sees all."""

    permission_classes = (IsAuthenticated, HoldsAuditScope)
    renderer_classes = RENDERERS

    @extend_schema(
        operation_id="audit_events", summary="List audit records, newest first",
        parameters=_PARAMETERS, responses={200: AuditPageSerializer, **REFUSED},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        wanted = _wanted(request)
        as_file = request.accepted_renderer.format != JSONRenderer.format
        size = wanted.pop("limit", _EXPORT if as_file else _PAGE)
        found = self._visible().filter(**{_COLUMN[name]: str(value) if name == "connection" else value
                                          for name, value in wanted.items()})  # fmt: skip
        page = list(found.order_by("-sequence")[: size + 1])
        shown, more = page[:size], len(page) > size
        if as_file:
            self._record_export(shown)
        cursor = str(shown[-1].sequence) if more else None
        return Response(
            {"results": AuditRecordSerializer(shown, many=True).data, "next_cursor": cursor},
            headers=_link(request, cursor),
        )

    def _visible(self) -> QuerySet[AuditRecord]:
        user = self.request.user
        everything = AuditRecord.objects.all()
        return everything if user.has_perm("audit.view_auditrecord") else everything.filter(actor=str(user.pk))

    def _record_export(self, shown: Sequence[AuditRecord]) -> None:
        record(
            AuditEvent.AUDIT_EXPORTED,
            actor=self.request.user,
            client=getattr(self.request.auth, "name", ""),
            details={"format": self.request.accepted_renderer.format, "count": len(shown)},
        )

    def handle_exception(self, exc: Exception) -> Response:
        # A refusal is JSON also to somebody who asked for a file.
        self.request.accepted_renderer = JSONRenderer()
        self.request.accepted_media_type = JSONRenderer.media_type
        return super().handle_exception(exc)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        finished = super().finalize_response(request, response, *args, **kwargs)
        finished.headers["Cache-Control"] = "no-store"
        finished.headers["Referrer-Policy"] = "no-referrer"
        return finished


def _wanted(request: Request) -> dict[str, Any]:
    """Return the filters of the address; a name that is not known, or is there twice, is refused."""
    given = request.query_params
    problems = {name[:60]: ["This filter is not known here."] for name in given if name not in _known()}
    problems |= {name: ["Name it once."] for name in _known() if len(given.getlist(name)) > 1}
    if problems:
        raise serializers.ValidationError(problems)
    filters = AuditFilterSerializer(
        data={_IN_ADDRESS.get(name, name): given[name] for name in given if name != "format"}
    )
    if not filters.is_valid():
        back = {ours: theirs for theirs, ours in _IN_ADDRESS.items()}
        raise serializers.ValidationError({back.get(name, name): said for name, said in filters.errors.items()})
    return dict(filters.validated_data)


def _known() -> frozenset[str]:
    return frozenset(parameter.name for parameter in _PARAMETERS)


def _link(request: Request, cursor: str | None) -> dict[str, str]:
    """Where the next page is, relative to this one, for those who get no `next_cursor` in a file. RFC 8288 §3."""
    if cursor is None:
        return {}
    query = request.query_params.copy()
    query["cursor"] = cursor
    return {"Link": f'<?{query.urlencode()}>; rel="next"'}
