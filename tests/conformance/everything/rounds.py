"""Tools and a prompt that answer with a question, and are called again with what was said: as from 2026-07-28."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequests,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    MissingRequiredClientCapabilityErrorData,
    SamplingCapability,
    SamplingMessage,
    TextContent,
)

Round = str | InputRequiredResult


def test_input_required_result_elicitation(ctx: Context) -> Round:
    """Ask for a name."""
    if name := _filled(ctx, "user_name").get("name"):
        return f"Hello, {name}!"
    return _ask({"user_name": _form("What is your name?", name="string")})


def test_input_required_result_sampling(ctx: Context) -> Round:
    """Ask the client's model for a capital."""
    if said := _sampled(ctx, "capital_question"):
        return said
    return _ask({"capital_question": _sample("What is the capital of France?")})


def test_input_required_result_list_roots(ctx: Context) -> Round:
    """Ask for the client's roots."""
    if (roots := _roots(ctx)) is not None:
        return f"Roots: {', '.join(roots)}"
    return _ask({"client_roots": ListRootsRequest()})


def test_input_required_result_request_state(ctx: Context) -> Round:
    """Ask for a confirmation, and know again what it was for."""
    if _filled(ctx, "confirm") and ctx.request_state == "asked":
        return "state-ok"
    return _ask({"confirm": _form("Please confirm", ok="boolean")}, state="asked")


def test_input_required_result_multiple_inputs(ctx: Context) -> Round:
    """Ask for three things at once."""
    name, greeting, roots = _filled(ctx, "user_name").get("name"), _sampled(ctx, "greeting"), _roots(ctx)
    if name and greeting and roots is not None:
        return f"{greeting}, {name}: {', '.join(roots)}"
    return _ask(
        {
            "user_name": _form("What is your name?", name="string"),
            "greeting": _sample("Generate a greeting", max_tokens=50),
            "client_roots": ListRootsRequest(),
        },
        state="asked",
    )


def test_input_required_result_multi_round(ctx: Context) -> Round:
    """Ask twice, one after the other."""
    if ctx.request_state and (color := _filled(ctx, "step2").get("color")):
        return f"{ctx.request_state} likes {color}."
    if ctx.request_state and (name := _filled(ctx, "step1").get("name")):
        return _ask({"step2": _form("Step 2: What is your favorite color?", color="string")}, state=str(name))
    return _ask({"step1": _form("Step 1: What is your name?", name="string")}, state="asked")


def test_input_required_result_tampered_state(ctx: Context) -> Round:
    """Ask for a confirmation; the SDK refuses a state that somebody has changed."""
    if _filled(ctx, "confirm"):
        return f"untouched: {ctx.request_state}"
    return _ask({"confirm": _form("Please confirm", ok="boolean")}, state="sealed")


def test_input_required_result_capabilities(ctx: Context) -> Round:
    """Ask only in the ways that the client can answer."""
    can, asked = ctx.client_capabilities or ClientCapabilities(), dict[str, Any]()
    if ctx.input_responses:
        return f"answered: {', '.join(sorted(ctx.input_responses))}"
    if can.sampling is not None:
        asked["sampled"] = _sample("Say something")
    if can.elicitation is not None:
        asked["form"] = _form("Say something", text="string")
    return _ask(asked) if asked else "nobody to ask"


def test_missing_capability(ctx: Context) -> str:
    """Need a client that lets its model be asked."""
    if (ctx.client_capabilities or ClientCapabilities()).sampling is not None:
        return "sampling"
    needed = MissingRequiredClientCapabilityErrorData(
        required_capabilities=ClientCapabilities(sampling=SamplingCapability())
    )
    data = needed.model_dump(by_alias=True, exclude_none=True)
    raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "The client must offer sampling.", data)


async def test_streaming_elicitation(ctx: Context) -> Round:
    """Report progress, then ask: in the answer, never by a request on the stream."""
    await ctx.report_progress(1, total=2)
    if name := _filled(ctx, "user_name").get("name"):
        return f"Hello, {name}!"
    return _ask({"user_name": _form("What is your name?", name="string")})


def test_input_required_result_prompt(ctx: Context) -> Round:
    """Ask what the prompt is for."""
    if about := _filled(ctx, "user_context").get("context"):
        return f"Talk about {about}."
    return _ask({"user_context": _form("What context should the prompt use?", context="string")})


def _ask(requests: InputRequests, *, state: str | None = None) -> InputRequiredResult:
    return InputRequiredResult(input_requests=requests, request_state=state)


def _form(message: str, **fields: str) -> ElicitRequest:
    properties = {name: {"type": kind} for name, kind in fields.items()}
    schema = {"type": "object", "properties": properties, "required": list(fields)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _sample(text: str, *, max_tokens: int = 100) -> CreateMessageRequest:
    said = [SamplingMessage(role="user", content=TextContent(type="text", text=text))]
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=said, max_tokens=max_tokens))


def _filled(ctx: Context, key: str) -> dict[str, Any]:
    """The fields of a form that was accepted; empty for anything else."""
    answer = (ctx.input_responses or {}).get(key)
    return dict(answer.content or {}) if isinstance(answer, ElicitResult) and answer.action == "accept" else {}


def _sampled(ctx: Context, key: str) -> str:
    answer = (ctx.input_responses or {}).get(key)
    found = answer.content if isinstance(answer, CreateMessageResult) else None
    return found.text if isinstance(found, TextContent) else ""


def _roots(ctx: Context) -> list[str] | None:
    answer = (ctx.input_responses or {}).get("client_roots")
    return [str(root.uri) for root in answer.roots] if isinstance(answer, ListRootsResult) else None


TOOLS = (
    test_input_required_result_elicitation, test_input_required_result_sampling,
    test_input_required_result_list_roots, test_input_required_result_request_state,
    test_input_required_result_multiple_inputs, test_input_required_result_multi_round,
    test_input_required_result_tampered_state, test_input_required_result_capabilities, test_missing_capability,
    test_streaming_elicitation,
)  # fmt: skip
