"""Reading what clients POST, in both eras. Ids of the transport notes and of A6."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gateway.messages import Era, RefusedMessageError, check_headers_without_body, error_body, read_message
from tests.requirements import requirement

from .posted import META, MODERN, Headers, call, modern_headers, read, refusal

LEGACY = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
PING: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
BASE64 = base64.b64encode("süche".encode()).decode()


def version(value: str) -> tuple[str, str]:
    return "MCP-Protocol-Version", value


def test_a_modern_call_is_read() -> None:
    message = read(call(), *modern_headers())
    assert (message.era, message.version, message.kind) == (Era.MODERN, MODERN, "request")
    assert (message.method, message.id, message.name) == ("tools/call", 1, "search")
    assert message.params["arguments"] == {"query": "roadmap"}
    assert json.loads(message.body) == call()
    assert b" " not in message.body


@requirement("G-08")
@pytest.mark.parametrize("header", [(), *((version(value),) for value in LEGACY)])
def test_a_legacy_call_is_read_without_a_look_at_mirrored_headers(header: tuple[tuple[str, str], ...]) -> None:
    document = {"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": {"name": "search"}}
    message = read(document, *header, ("Mcp-Method", "tools/list"), ("Mcp-Name", "other"))
    assert (message.era, message.kind, message.name) == (Era.LEGACY, "request", "search")
    assert message.version == (header[0][1] if header else "")


def test_initialize_without_a_version_header_is_legacy() -> None:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    assert read({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).era is Era.LEGACY


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (PING, "request"),
        ({"jsonrpc": "2.0", "method": "notifications/initialized"}, "notification"),
        ({"jsonrpc": "2.0", "method": "notifications/initialized", "params": None}, "notification"),
        ({"jsonrpc": "2.0", "id": 3, "result": {}}, "response"),
        ({"jsonrpc": "2.0", "id": "x", "error": {"code": -1, "message": "no"}}, "response"),
        ({"jsonrpc": "2.0", "id": None, "error": {"code": -1, "message": "no"}}, "response"),
        ({"jsonrpc": "2.0", "error": {"code": -1, "message": "no"}}, "response"),
    ],
)
def test_legacy_messages_of_each_kind_are_read(document: dict[str, Any], kind: str) -> None:
    message = read(document, version("2025-11-25"))
    assert (message.kind, message.id) == (kind, document.get("id"))


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"jsonrpc": "2.0"},
        {"jsonrpc": "2.0", "id": 1},
        {"id": 1, "method": "ping"},
        {"jsonrpc": 2.0, "id": 1, "method": "ping"},
        {"jsonrpc": "1.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1, "method": 5},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "result": {}},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "error": {"code": 1, "message": ""}},
        {"jsonrpc": "2.0", "result": {}},
        {"jsonrpc": "2.0", "id": None, "result": {}},
        {"jsonrpc": "2.0", "id": 1, "Method": "ping"},
        {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "METHOD": "tools/call"},
        {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "param\u017f": {}},
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "Name": "b"}},
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "arguments": {}, "Arguments": {}}},
        {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_META": {}}},
        "ping", 5, None, True,
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(document: object) -> None:
    error = refusal(document)
    assert (error.status, error.code) == (400, -32600)


@requirement("G-10")
@pytest.mark.parametrize("id", [None, True, 1.5, 1.0, [], {}, 2**63, -(2**63), 10**30])
def test_an_id_is_a_text_or_a_whole_number(id: object) -> None:
    error = refusal(PING | {"id": id})
    assert (error.status, error.code, error.id) == (400, -32600, None)


@pytest.mark.parametrize("id", ["", "a", "\u00e9", 0, -1, 2**63 - 1, 1 - 2**63])
def test_other_ids_are_kept(id: object) -> None:
    assert read(PING | {"id": id}).id == id
    assert json.loads(read(PING | {"id": id}).body)["id"] == id


@pytest.mark.parametrize("params", [[], [1], "a", 5, False])
def test_params_are_an_object(params: object) -> None:
    error = refusal(PING | {"params": params})
    assert (error.code, error.id) == (-32602, 1)


@pytest.mark.parametrize("name", [5, None, ["search"], {"a": 1}, True])
def test_a_name_that_is_no_text_is_refused(name: object) -> None:
    """A policy could not tell which tool is meant, and the upstream perhaps could."""
    error = refusal(PING | {"method": "tools/call", "params": {"name": name}})
    assert (error.code, error.id) == (-32602, 1)


def test_the_arguments_of_a_tool_may_differ_in_case_only() -> None:
    arguments = {"name": 1, "Name": 2, "_meta": 3, "_META": 4}
    document = PING | {"method": "tools/call", "params": {"name": "a", "arguments": arguments}}
    assert json.loads(read(document).body) == document


@requirement("G-10")
@pytest.mark.parametrize("missing", ["protocolVersion", "clientCapabilities"])
def test_a_modern_request_without_its_meta_is_refused(missing: str) -> None:
    meta = {name: value for name, value in META.items() if not name.endswith(missing)}
    shapes: list[dict[str, Any]] = [{"_meta": meta}, {}, {"_meta": None}, {"_meta": []}]
    for params in shapes:
        error = refusal(PING | {"params": params}, *modern_headers(method="ping", name=None))
        assert (error.status, error.code, error.id) == (400, -32602, 1)


def test_a_modern_request_needs_no_client_info() -> None:
    meta = {name: value for name, value in META.items() if not name.endswith("clientInfo")}
    assert read(PING | {"params": {"_meta": meta}}, *modern_headers(method="ping", name=None)).era is Era.MODERN


@requirement("G-07", "G10")
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (version("2025-11-25"), ("Mcp-Method", "tools/call"), ("Mcp-Name", "search")),
        (version("2027-01-01"), ("Mcp-Method", "tools/call"), ("Mcp-Name", "search")),
        modern_headers()[1:],
        modern_headers()[:1],
        modern_headers()[:2],
        modern_headers(method="tools/list"),
        modern_headers(method="TOOLS/CALL"),
        modern_headers(method="=?base64?dG9vbHMvY2FsbA==?="),
        modern_headers(name="other"),
        modern_headers(name="Search"),
        modern_headers(name=""),
        modern_headers(name="=?base64?c2VhcmNo"),
        modern_headers(name="=?base64?c2VhcmNo=?="),
        modern_headers(name="=?base64?c2Vh!!!cmNo?="),
        modern_headers(name="=?BASE64?c2VhcmNo?="),
        (*modern_headers(), version(MODERN)),
        (*modern_headers(), ("Mcp-Method", "tools/call")),
        (*modern_headers(), ("Mcp-Name", "search")),
    ],
)
def test_headers_of_a_modern_request_agree_with_its_body(headers: tuple[tuple[str, str], ...]) -> None:
    error = refusal(call(), *headers)
    assert (error.status, error.code) == (400, -32020)


@requirement("G-07")
@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("search", "  search\t"),
        ("search", "=?base64?c2VhcmNo?="),
        ("s\u00fcche", f"=?base64?{BASE64}?="),
        ("=?base64?c2VhcmNo", "=?base64?c2VhcmNo"),
        ("c2VhcmNo", "c2VhcmNo"),
    ],
)
def test_a_name_may_be_encoded(name: str, header: str) -> None:
    assert read(call(name), *modern_headers(name=header)).name == name


def test_raw_text_beyond_ascii_agrees_with_nothing() -> None:
    assert refusal(call("s\u00fcche"), *modern_headers(name="s\u00fcche")).code == -32020


@pytest.mark.parametrize(("method", "parameter"), [("prompts/get", "name"), ("resources/read", "uri")])
def test_prompts_and_resources_are_named_too(method: str, parameter: str) -> None:
    document = PING | {"method": method, "params": {parameter: "file:///a", "_meta": META}}
    assert read(document, *modern_headers(method=method, name="file:///a")).name == "file:///a"
    assert refusal(document, *modern_headers(method=method, name="file:///b")).code == -32020


def test_a_name_that_only_the_header_knows_is_refused() -> None:
    document = PING | {"method": "tools/call", "params": {"_meta": META}}
    assert refusal(document, *modern_headers(name="search")).code == -32020
    assert read(document, *modern_headers(name=None)).name == ""


@requirement("G-06")
def test_unknown_headers_of_parameters_are_not_looked_at() -> None:
    assert read(call(), *modern_headers(), ("Mcp-Param-Region", "=?base64?!?=")).name == "search"
    other = PING | {"method": "tasks/get", "params": {"taskId": "7", "_meta": META}}
    assert read(other, *modern_headers(method="tasks/get", name="7")).name == ""


@requirement("G-10")
def test_a_version_that_nobody_knows_is_named_with_those_that_are() -> None:
    for document in (call(version="v999.0.0"), PING | {"id": 301, "params": call(version="v999.0.0")["params"]}):
        name = "search" if document["method"] == "tools/call" else None
        error = refusal(document, *modern_headers(version="v999.0.0", method=document["method"], name=name))
        assert (error.status, error.code, error.id) == (400, -32022, document["id"])
        assert error.data == {"supported": [MODERN], "requested": "v999.0.0"}


def test_a_modern_body_is_no_response_and_no_batch() -> None:
    for document in ({"jsonrpc": "2.0", "id": 1, "result": {}}, [call()]):
        assert refusal(document, version(MODERN)).code == -32600


def test_a_modern_notification_needs_no_more_than_its_version() -> None:
    document: dict[str, Any] = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert read(document, version(MODERN)).kind == "notification"
    assert refusal(document, version("v999")).code == -32022
    assert refusal(document, version(MODERN), ("Mcp-Method", "notifications/progress")).code == -32020
    assert refusal(document | {"params": {"_meta": META}}).code == -32020


@requirement("G-21")
@pytest.mark.parametrize("header", [(), (version("2025-03-26"),)])
def test_a_batch_of_2025_03_26_is_read(header: tuple[tuple[str, str], ...]) -> None:
    call_a = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a"}}
    message = read([call_a, {"jsonrpc": "2.0", "method": "notifications/progress"}], *header)
    assert (message.kind, message.id, message.method, message.era) == ("batch", None, "", Era.LEGACY)
    assert [member.name for member in message.members] == ["a", ""]
    assert json.loads(message.body)[0] == call_a


@requirement("G-21", "G10")
@pytest.mark.parametrize("value", [*LEGACY[2:], "2024-11-05", MODERN, "v999"])
def test_other_versions_have_no_batches(value: str) -> None:
    assert refusal([PING], version(value)).code == -32600


@pytest.mark.parametrize("batch", [[], [PING] * 101, [[PING]], [1], [PING | {"method": "initialize"}]])
def test_batches_are_short_and_hold_messages(batch: list[Any]) -> None:
    assert refusal(batch).code == -32600


def test_a_batch_hides_no_modern_request() -> None:
    assert refusal([call()]).code == -32020


@pytest.mark.parametrize("value", ["", *LEGACY])
def test_get_and_delete_are_legacy(value: str) -> None:
    headers = Headers(version(value)) if value else Headers()
    assert check_headers_without_body(headers) is Era.LEGACY


@pytest.mark.parametrize("value", [MODERN, "v999", "2024-01-01"])
def test_get_and_delete_are_not_modern(value: str) -> None:
    with pytest.raises(RefusedMessageError) as refused:
        check_headers_without_body(Headers(version(value)))
    assert refused.value.status == 405


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        'application/json ; charset="UTF-8"',
        "application/json; x=y",
    ],
)
def test_json_in_utf_8_is_read(content_type: str) -> None:
    read_message(b'{"jsonrpc":"2.0","id":1,"method":"ping"}', headers=Headers(("Content-Type", content_type)))


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Content-Type", ""),),
        (("Content-Type", "text/plain"),),
        (("Content-Type", "application/jsonp"),),
        (("Content-Type", "text/plain, application/json"),),
        (("Content-Type", "application/json; charset=utf-16"),),
        (("Content-Type", "application/json; charset=utf-8-sig"),),
        (("Content-Type", "application/json"), ("Content-Type", "text/plain")),
        (("Content-Type", "application/json"), ("Content-Encoding", "gzip")),
    ],
)
def test_what_is_announced_as_something_else_is_refused(headers: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(RefusedMessageError) as refused:
        read_message(b'{"jsonrpc":"2.0","id":1,"method":"ping"}', headers=Headers(*headers))
    assert (refused.value.status, refused.value.code) == (415, -32600)


def test_errors_are_json_rpc_documents() -> None:
    assert json.loads(error_body(-32601, "no", id="a")) == {
        "jsonrpc": "2.0", "id": "a", "error": {"code": -32601, "message": "no"},
    }  # fmt: skip
    body = json.loads(refusal(call(), *modern_headers()[:1]).body)
    assert (body["id"], body["error"]["code"]) == (1, -32020)
    assert json.loads(error_body(-32022, "no", id=None, data={"a": 1}))["error"]["data"] == {"a": 1}
