"""`POST /graphql/stream`: one subscription over Server-Sent Events, as graphql-sse's distinct connections mode has it.

An operation that is not valid is answered by a `next` event with its errors and `complete`: the clients of other people
show that as an error, and a status 400 not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from drf_spectacular.utils import extend_schema
from graphql import DocumentNode, ExecutionResult, GraphQLError, subscribe
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from connections.models.api_token import ApiScope
from connections.permissions import HasScopes
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import TransportError
from oauthflow.streams.frames import COMPLETE, RETRY, next_frame
from oauthflow.streams.renderer import EventStreamRenderer, answer_json
from oauthflow.streams.stream import Stream
from oauthflow.streams.tickets import opening_of

from .documents import InvalidDocumentError, executable_document
from .schema import schema
from .subscriptions import Listening
from .view import Asked, GraphQLView, asked_of, is_subscription, mistake, shown

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@extend_schema(exclude=True)
class GraphQLStreamView(GraphQLView):
    """Opens a stream for one valid, modest subscription.

    Spec: public contract, section 5; graphql-sse protocol, distinct connections mode; security notes Z08, G13.
    """

    permission_classes = (IsAuthenticated, HasScopes)
    renderer_classes = (EventStreamRenderer,)
    required_scopes: ClassVar = {"POST": ApiScope.CONNECTIONS_READ}

    def post(self, request: Request) -> Response:
        asked = asked_of(request.data)
        document = executable_document(asked.query, variables=asked.variables)
        if not is_subscription(document, asked.operation_name):
            raise InvalidDocumentError([GraphQLError("Only subscriptions are served here; the rest is at /graphql.")])
        opening = opening_of(request)
        if opening is None:
            raise TransportError("not served by the root of the site", code=Code.TEMPORARILY_UNAVAILABLE)
        opening.admit(request, frames=result_frames(document, asked, user=cast("User", request.user)))
        return Response(RETRY, headers={"X-Accel-Buffering": "no"})

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, InvalidDocumentError):
            return Response(next_frame({"errors": [mistake(error) for error in exc.errors]}) + COMPLETE)
        answer_json(self.request)
        return super().handle_exception(exc)


def result_frames(
    document: DocumentNode, asked: Asked, *, user: User
) -> Callable[[Stream], AsyncGenerator[bytes, None]]:
    """Return what is written to a stream: the results of a subscription, and that it is complete where it is.

    A stream that the site ends is not complete: the client connects again.
    """

    async def frames(stream: Stream) -> AsyncGenerator[bytes, None]:
        results = await subscribe(
            schema.graphql_schema,
            document,
            context_value=Listening(user, stream),
            variable_values=asked.variables,
            operation_name=asked.operation_name,
        )
        if isinstance(results, ExecutionResult):
            yield next_frame(_told(results))
        else:
            async for result in results:
                yield next_frame(_told(result))
        if not stream.ended:
            yield COMPLETE

    return frames


def _told(result: ExecutionResult) -> dict[str, Any]:
    told: dict[str, Any] = {"data": result.data}
    if result.errors:
        told["errors"] = [shown(error) if error.original_error else mistake(error) for error in result.errors]
    return told
