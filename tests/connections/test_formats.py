"""Reading the files of MCP clients, of the registry, and our own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connections.formats.detection import read_servers
from connections.formats.documents import read_document, without_comments
from connections.formats.entry import FileContent, FileFormat, ServerEntry, UnreadableFileError, slug_for
from connections.formats.masking import masked_arguments, masked_url
from connections.formats.placeholders import find_placeholder

from .conftest import MARKER

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
URL = "https://mcp.example.com/mcp"


def _one(body: dict[str, Any]) -> ServerEntry:
    content = read_servers({"mcpServers": {"it": body}})
    assert content.problems == ()
    return content.entries[0]


def _problem(body: object) -> str:
    content = read_servers({"mcpServers": {"it": body}})
    assert content.entries == ()
    return content.problems[0].reason


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"mcpServers": {}}, FileFormat.MCP_SERVERS),
        ({"servers": {}, "inputs": []}, FileFormat.VS_CODE),
        ({"mcp": {"servers": {}}}, FileFormat.VS_CODE),
        ({"name": "a/b", "remotes": []}, FileFormat.REGISTRY),
        ({"server": {"name": "a/b"}, "_meta": {}}, FileFormat.REGISTRY),
        ({"servers": [{"server": {"name": "a/b"}}]}, FileFormat.REGISTRY),
        ({"mcp_oauth_site": 1, "servers": []}, FileFormat.YAML),
        ({"servers": [{"name": "a", "url": URL}]}, FileFormat.YAML),
    ],
)
def test_the_format_is_detected(document: dict[str, Any], kind: FileFormat) -> None:
    assert read_servers(document).format is kind
    assert read_servers(json.dumps(document)).format is kind


@pytest.mark.parametrize(
    ("text", "transport"),
    [("http", "streamable_http"), ("streamable-http", "streamable_http"), ("streamableHttp", "streamable_http"),
     ("sse", "sse"), ("", "streamable_http")],
)  # fmt: skip
def test_every_spelling_of_the_transport_is_understood(text: str, transport: str) -> None:
    assert _one({"url": URL, "type": text}).values["transport"] == transport


def test_other_spellings_of_the_address_are_understood() -> None:
    assert [_one({name: URL}).values["url"] for name in ("url", "serverUrl", "httpUrl")] == [URL] * 3
    assert _one({"url": "https://mcp.example.com/sse"}).values["transport"] == "sse"


def test_a_bearer_header_becomes_a_fixed_token() -> None:
    values = _one({"url": URL, "headers": {"authorization": f"bearer {MARKER}", "Accept": "*/*"}}).values
    assert (values["auth_type"], values["static_credential"]) == ("bearer", MARKER)


def test_another_header_is_kept_whole() -> None:
    values = _one({"url": URL, "headers": {"X-Key": MARKER}}).values
    assert [values[name] for name in ("auth_type", "header_name", "static_credential")] == ["header", "X-Key", MARKER]
    values = _one({"url": URL, "headers": {"Authorization": f"Basic {MARKER}"}}).values
    assert [values[name] for name in ("header_name", "static_credential")] == ["Authorization", f"Basic {MARKER}"]


def test_a_local_program_keeps_its_arguments_and_environment() -> None:
    values = _one({"command": "npx", "args": ["-y", "notes", 5], "env": {"A": MARKER, "PORT": 8080}}).values
    assert values["transport"] == "stdio"
    assert values["arguments"] == ["-y", "notes", "5"]
    assert values["environment"] == {"A": MARKER, "PORT": "8080"}


def test_a_bridge_to_a_remote_server_becomes_that_server() -> None:
    arguments = ["-y", "mcp-remote@latest", URL, "--header", f"Authorization: Bearer {MARKER}"]
    entry = _one({"command": "/usr/bin/npx", "args": arguments, "env": {"X": "y"}})
    assert (entry.values["url"], entry.values["transport"]) == (URL, "streamable_http")
    assert entry.values["static_credential"] == MARKER
    assert "command" not in entry.values


def test_the_client_of_cursor_is_taken_over() -> None:
    auth = {"CLIENT_ID": "id", "CLIENT_SECRET": MARKER, "scopes": ["read", "write"]}
    values = _one({"url": URL, "auth": auth}).values
    assert (values["client_id"], values["client_secret"], values["scopes"]) == ("id", MARKER, "read write")


@pytest.mark.parametrize("mark", ["${TOKEN}", "${env:TOKEN}", "${input:token}", "{{token}}", "%(TOKEN)s", "{token}"])
def test_placeholders_in_credentials_are_not_kept_and_are_reported(mark: str) -> None:
    header = _one({"url": URL, "headers": {"Authorization": f"Bearer {mark}"}})
    assert header.values["auth_type"] == "bearer"
    assert "static_credential" not in header.values
    assert mark in header.notes[0]
    program = _one({"command": "notes", "env": {"TOKEN": mark, "PLAIN": "x"}})
    assert program.values["environment"] == {"PLAIN": "x"}
    assert "TOKEN" in program.notes[0]


@pytest.mark.parametrize(
    "url", ["https://x.example/${KEY}", "https://${HOST}/mcp", "https://x.example/?k={{key}}", "https://x/%(K)s"]
)
def test_placeholders_in_addresses_are_refused(url: str) -> None:
    assert "placeholders are not expanded" in _problem({"url": url})


@pytest.mark.parametrize(
    "body",
    [None, [], "text", 5, {}, {"url": 5}, {"url": ""}, {"command": ["x"]}, {"command": "x", "args": "y"},
     {"url": URL, "headers": ["a"]}, {"url": URL, "headers": {"A": {}}}, {"url": URL, "type": "pigeon"},
     {"url": URL, "type": "stdio"}, {"command": "x", "type": "http"}, {"command": "x", "env": {"A": None}},
     {"url": URL, "headers": {"A": "1", "B": "2"}}],
)  # fmt: skip
def test_an_entry_that_does_not_fit_is_a_problem_with_a_reason(body: object) -> None:
    assert len(_problem(body)) > 10


def test_no_problem_and_no_note_repeats_a_secret() -> None:
    bodies = {
        "a": {"url": URL, "headers": {"A": MARKER, "B": MARKER}},
        "b": {"command": "x", "type": "http", "env": {"A": MARKER}},
        "c": {"url": URL, "headers": {"Accept": MARKER, "X": MARKER}, "auth": {"CLIENT_SECRET": MARKER}},
    }
    assert MARKER not in repr(read_servers({"mcpServers": bodies}))


def test_a_registry_entry_takes_the_streamable_remote_and_asks_for_required_headers() -> None:
    server = {
        "name": "com.example/notes",
        "title": "Notes",
        "description": "Keeps notes.",
        "websiteUrl": "https://example.com",
        "remotes": [
            {"type": "sse", "url": "https://mcp.example.com/sse"},
            {
                "type": "streamable-http",
                "url": URL,
                "headers": [{"name": "Authorization", "isRequired": True, "isSecret": True}, {"name": "X-Region"}],
            },
        ],
    }
    entry = read_servers({"server": server}).entries[0]
    assert (entry.slug, entry.values["name"], entry.values["url"]) == ("com-example-notes", "Notes", URL)
    assert entry.values["auth_type"] == "bearer"
    assert len(entry.notes) == 2


@pytest.mark.parametrize(
    "server",
    [{"name": "a/b", "remotes": []}, {"name": "a/b", "packages": [{}]}, {"remotes": []}, {"name": 5, "remotes": []},
     {"name": "a/b", "remotes": [{"type": "sse", "url": "https://{tenant}.example.com"}]},
     {"name": "a/b", "status": "deleted", "remotes": [{"type": "sse", "url": URL}]},
     {"name": "a/b", "remotes": [{"type": "sse", "url": URL, "headers": ["x"]}]}],
)  # fmt: skip
def test_a_registry_entry_without_a_usable_remote_is_a_problem(server: dict[str, Any]) -> None:
    content = read_servers(server)
    assert (content.entries, len(content.problems)) == ((), 1)


def test_our_yaml_names_fields_and_turns_marks_of_secrets_into_notes() -> None:
    text = f"mcp_oauth_site: 1\nservers:\n- name: Notes\n  url: {URL}\n  client_secret_set: true\n- {{}}\n- name: 5\n"
    content = read_servers(text)
    assert content.entries[0].values == {"name": "Notes", "url": URL}
    assert content.entries[0].notes == ("client_secret was set where this file comes from: enter it.",)
    assert [problem.name for problem in content.problems] == ["entry 2", "entry 3"]


def test_comments_and_trailing_commas_are_read_as_editors_write_them() -> None:
    text = '// mine\n{"servers": {/* a */ "a": {"url": "https://x.example/a//b", "type": "http",},},}'
    assert read_servers(text).entries[0].values["url"] == "https://x.example/a//b"


@given(JSON_VALUES)
@example('// "/*,]} \\')
@example({'"': ['\\",}', "/*"]})
def test_json_without_comments_reads_as_before(value: object) -> None:
    assert json.loads(without_comments(json.dumps(value))) == value
    assert json.loads(without_comments(json.dumps(value, ensure_ascii=False, indent=1))) == value


@pytest.mark.parametrize("unit", ["/*", '"', '\\"', "//", ",", "{", "[", "/*/", ', "', "\\"])
def test_a_text_made_to_be_slow_is_read_or_refused_in_one_pass(unit: str) -> None:
    with pytest.raises(UnreadableFileError):
        read_document("{" + unit * (400_000 // len(unit)))


@pytest.mark.parametrize(
    "text",
    ["", "null", "5", "[]", "- a\n- b", "a: &x 1\nb: *x", "a: 1\na: 2", '{"a": 1, "a": 2}', '{"a": NaN}', "a: [", "{",
     "!!python/object/apply:os.system ['true']", "a: !secret x", "\x00", "a" * 1_048_577, "[" * 5_000, "{a: " * 5_000,
     "? [a]\n: b\n", "2: !!timestamp x"],
)  # fmt: skip
def test_a_file_that_is_no_plain_object_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UnreadableFileError) as refusal:
        read_document(text)
    assert "\n" not in str(refusal.value)


def test_more_than_500_servers_are_refused() -> None:
    bodies = {f"s{number}": {"url": URL} for number in range(501)}
    with pytest.raises(UnreadableFileError):
        read_servers({"mcpServers": bodies})
    bodies.popitem()
    assert len(read_servers({"mcpServers": bodies}).entries) == 500


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from([*"abc:-?&*!|>{}[],'\"#% \n\t<=0195.T~@`", "!!int ", "<<: ", "- ", ": ", "a: ", "2026-13-41"])
    )
)
def test_any_text_is_read_or_refused(pieces: list[str]) -> None:
    try:
        assert isinstance(read_document("".join(pieces)), dict)
    except UnreadableFileError:
        return


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(["mcpServers", "servers", "mcp", "server", "remotes", "packages", "name", "mcp_oauth_site"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=8) | st.sampled_from([URL, "http", "stdio", "${X}"]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "name",
                            "url",
                            "type",
                            "headers",
                            "command",
                            "args",
                            "env",
                            "auth",
                            "remotes",
                            "server",
                            "scopes",
                            "value",
                        ]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ),
    )
)
def test_whatever_a_file_holds_is_read_reported_or_refused(document: dict[str, Any]) -> None:
    try:
        content = read_servers(document)
    except UnreadableFileError:
        return
    assert isinstance(content, FileContent)
    assert all(entry.slug and isinstance(entry.values.get("name"), str) for entry in content.entries)


@given(st.text())
def test_every_name_has_a_slug_and_always_the_same(name: str) -> None:
    slug = slug_for(name)
    assert slug == slug_for(name)
    assert 0 < len(slug) <= 80
    assert slug.isascii()


@pytest.mark.parametrize("text", ["", "plain", "$HOME", "100%", "a{", "}", "$(x)", "%20"])
def test_what_is_no_placeholder_is_not_taken_for_one(text: str) -> None:
    assert find_placeholder(text) == ""


def test_keys_in_addresses_and_command_lines_are_masked() -> None:
    assert masked_url(f"{URL}?api_key={MARKER}&region=eu&code") == f"{URL}?api_key=${{API_KEY}}&region=eu&code"
    assert masked_url(URL) == URL
    arguments = ["--api-key", MARKER, "--port", "80", f"--token={MARKER}", "-e", f"PASSWORD={MARKER}", "--verbose",
                 "--header", f"Authorization: Bearer {MARKER}", f"X-Api-Key:{MARKER}"]  # fmt: skip
    masked = masked_arguments(arguments)
    assert MARKER not in str(masked)
    assert masked[:4] == ["--api-key", "${API_KEY}", "--port", "80"]
    assert len(masked) == len(arguments)
