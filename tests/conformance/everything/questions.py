"""Tools that ask the client in the middle of a call, as servers did up to 2025-11-25."""

from __future__ import annotations

import json
from typing import Any

from mcp.server.mcpserver import Context
from mcp_types import ElicitResult, SamplingMessage, TextContent


async def test_sampling(prompt: str, ctx: Context) -> str:
    """Ask the client's model."""
    said = [SamplingMessage(role="user", content=TextContent(type="text", text=prompt))]
    answer = await ctx.session.create_message(said, max_tokens=100, related_request_id=ctx.request_id)
    return f"LLM response: {answer.content.text if isinstance(answer.content, TextContent) else answer.content}"


async def test_elicitation(message: str, ctx: Context) -> str:
    """Ask the person."""
    asked = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    return _told("User response", await _ask(ctx, message, asked))


async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Ask the person with a default for each primitive type."""
    asked = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    return _told("Elicitation completed", await _ask(ctx, "About you?", asked, required=()))


async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Ask the person to choose, in each way that a choice can be written."""
    titled = [{"const": f"value{number}", "title": f"Choice {number}"} for number in (1, 2, 3)]
    plain = [f"option{number}" for number in (1, 2, 3)]
    legacy = {"enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]}
    asked = {
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {"type": "string", **legacy},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    return _told("Elicitation completed", await _ask(ctx, "Which?", asked, required=()))


async def _ask(
    ctx: Context, message: str, properties: dict[str, Any], *, required: tuple[str, ...] | None = None
) -> ElicitResult:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
    }
    return await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)


def _told(words: str, answer: ElicitResult) -> str:
    return f"{words}: action={answer.action}, content={json.dumps(answer.content or {})}"


TOOLS = (test_sampling, test_elicitation, test_elicitation_sep1034_defaults, test_elicitation_sep1330_enums)
