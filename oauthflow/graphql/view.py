"""`POST /graphql`: JSON in, JSON out; a session with its CSRF token, or an API token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import structlog
from drf_spectacular.utils import extend_schema
from graphql import DocumentNode, GraphQLError, OperationType, execute_sync, get_operation_ast
from rest_framework.exceptions import ParseError
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.correlation import correlation_id
from audit.deferred import NOT_WRITABLE
from connections.json_body import JsonBodyParser
from oauthflow.error_responses import NO_STORE, foreseen, graphql_payload
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import FlowError

from .access import RefusedError
from .documents import InvalidDocumentError, executable_document
from .schema import schema

_MALFORMED: Final = frozenset({405, 406, 415})
_UNFORESEEN: Final = "Something went wrong here. An administrator finds it in the log by the correlation id."
_log = structlog.get_logger("oauthflow.graphql")


class ShortJsonParser(JsonBodyParser):
    """The same strict JSON as for REST, of at most 64 KiB. Z08."""

    max_body_bytes = 64 * 1024


@extend_schema(exclude=True)
class GraphQLView(APIView):
    """Executes one operation. Anything that is not a JSON POST of one valid, modest operation is answered by 400.

    Spec: public contract, section 5; security notes Z08, L06.
    """

    http_method_names = ("post",)
    parser_classes = (ShortJsonParser,)
    permission_classes: tuple[type[BasePermission], ...] = (IsAuthenticated,)

    def post(self, request: Request) -> Response:
        asked = asked_of(request.data)
        document = executable_document(asked.query, variables=asked.variables)
        if is_subscription(document, asked.operation_name):
            raise InvalidDocumentError([GraphQLError("Subscriptions are served at /graphql/stream.")])
        result = execute_sync(
            schema.graphql_schema,
            document,
            context_value=request,
            variable_values=asked.variables,
            operation_name=asked.operation_name,
        )
        if result.errors and any(error.path is None for error in result.errors):
            raise InvalidDocumentError(result.errors)
        for error in result.errors or ():
            if isinstance(error.original_error, NOT_WRITABLE):
                raise error.original_error
        answer: dict[str, Any] = {"data": result.data}
        if result.errors:
            answer["errors"] = [shown(error) for error in result.errors]
        return Response(answer)

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, InvalidDocumentError):
            return Response({"errors": [mistake(error) for error in exc.errors]}, status=400, exception=True)
        response = super().handle_exception(exc)
        said = response.data
        response.data = {"errors": [_error(said["message"], code=said["error"])]}
        if response.status_code in _MALFORMED:
            response.status_code = 400
        return response

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        finished = super().finalize_response(request, response, *args, **kwargs)
        for name, value in NO_STORE.items():
            finished.headers[name] = value
        return finished


@dataclass(frozen=True, slots=True)
class Asked:
    """One operation, as it was sent."""

    query: str
    variables: dict[str, Any]
    operation_name: str | None


def asked_of(body: object) -> Asked:
    """Read the body of a request.

    Raises:
        ParseError: It is not of the form that GraphQL over HTTP has.
    """
    if not isinstance(body, dict):
        raise ParseError("Send one JSON object: query, variables, operationName.")
    query, variables, name = body.get("query"), body.get("variables"), body.get("operationName")
    if not isinstance(query, str) or not query.strip():
        raise ParseError("query is missing, or not text.")
    if not isinstance(variables, dict | None) or not isinstance(name, str | None):
        raise ParseError("variables has to be an object, and operationName text.")
    return Asked(query, variables or {}, name)


def is_subscription(document: DocumentNode, operation_name: str | None) -> bool:
    """Say whether the operation that is meant is a subscription."""
    operation = get_operation_ast(document, operation_name)
    return operation is not None and operation.operation == OperationType.SUBSCRIPTION


def shown(error: GraphQLError) -> dict[str, Any]:
    """Say what a resolver refused; what nobody foresaw goes to the log alone."""
    cause = foreseen(error.original_error) if error.original_error else None
    place = {"path": error.path}
    if isinstance(cause, RefusedError):
        return _error(cause.message, code=cause.code) | place
    if isinstance(cause, FlowError):
        said = graphql_payload(cause)
        return _error(str(said["error_message"]), code=str(said["code"])) | place
    _log.error("unforeseen", exc_info=cause or error)
    return _error(_UNFORESEEN, code=Code.SERVER_ERROR) | place


def mistake(error: GraphQLError) -> dict[str, Any]:
    """Say what is wrong with the request itself, without telling names that it did not contain. L06."""
    shown = _error(error.message.partition(" Did you mean ")[0], code=Code.INVALID_REQUEST)
    if error.locations:
        shown["locations"] = [location.formatted for location in error.locations]
    return shown


def _error(message: str, *, code: str) -> dict[str, Any]:
    return {"message": message, "extensions": {"code": str(code), "correlationId": correlation_id()}}
