"""Tools that answer with each kind of content, and those that say something on the way."""

from __future__ import annotations

import asyncio
from typing import Annotated

from mcp.server.mcpserver import Context
from mcp_types import AudioContent, EmbeddedResource, ImageContent, TextContent, TextResourceContents
from pydantic import Field

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
SOUND = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA="
_STEP_SECONDS = 0.05
_AWAY_SECONDS = 0.2


def picture() -> ImageContent:
    return ImageContent(type="image", data=PICTURE, mime_type="image/png")


def embedded(inner: TextResourceContents) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=inner)


def test_simple_text() -> str:
    """Answer with a text."""
    return "This is a simple text response for testing."


def test_image_content() -> list[ImageContent]:
    """Answer with a picture."""
    return [picture()]


def test_audio_content() -> list[AudioContent]:
    """Answer with a sound."""
    return [AudioContent(type="audio", data=SOUND, mime_type="audio/wav")]


def test_embedded_resource() -> list[EmbeddedResource]:
    """Answer with a resource."""
    text = "This is an embedded resource content."
    return [embedded(TextResourceContents(uri="test://embedded-resource", mime_type="text/plain", text=text))]


def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Answer with a text, a picture and a resource."""
    data = TextResourceContents(
        uri="test://mixed-content-resource", mime_type="application/json", text='{"test":"data","value":123}'
    )
    return [TextContent(type="text", text="Multiple content types test:"), picture(), embedded(data)]


def test_error_handling() -> str:
    """Fail."""
    raise RuntimeError("This tool intentionally returns an error for testing")


async def test_tool_with_logging(ctx: Context) -> str:
    """Log three times on the way."""
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(said)
        await asyncio.sleep(_STEP_SECONDS)
    return "logged"


async def test_logging_tool(ctx: Context) -> str:
    """Log once, which only somebody hears who asked for it."""
    await ctx.info("logged")
    return "done"


async def test_tool_with_progress(ctx: Context) -> str:
    """Report how far it is, three times."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, total=100)
        await asyncio.sleep(_STEP_SECONDS)
    return "done"


async def test_reconnection(ctx: Context) -> str:
    """Close the stream in the middle; the client comes back for the rest."""
    await ctx.close_sse_stream()
    await asyncio.sleep(_AWAY_SECONDS)
    return "There you are."


def test_custom_header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})], count: int) -> str:
    """Have an argument that is repeated in a header."""
    return f"{region} {count}"


TOOLS = (
    test_simple_text, test_image_content, test_audio_content, test_embedded_resource, test_multiple_content_types,
    test_error_handling, test_tool_with_logging, test_logging_tool, test_tool_with_progress, test_reconnection,
    test_custom_header,
)  # fmt: skip
