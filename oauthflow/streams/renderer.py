"""What REST framework needs to know of streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request


class EventStreamRenderer(BaseRenderer):
    """Leaves the bytes of a stream as they are."""

    media_type = "text/event-stream"
    format = "event-stream"
    charset = "utf-8"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> Any:
        return data


def wants_stream(request: Request) -> bool:
    """Say whether the caller listens; otherwise it takes a page of JSON."""
    return bool(cast(Any, request).accepted_renderer.media_type == EventStreamRenderer.media_type)


def answer_json(request: Request) -> None:
    """Have this request answered by JSON whatever it asked for: refusals are never a stream."""
    chosen = cast(Any, request)
    chosen.accepted_renderer, chosen.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
