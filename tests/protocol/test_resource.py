import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauthflow.protocol.errors import BlockedUrlError, InvalidRequestError
from oauthflow.protocol.resource import canonical_resource, resource_covers
from tests.requirements import requirement


@requirement("A-07")
@pytest.mark.parametrize(
    ("url", "resource"),
    [
        ("https://mcp.example/mcp", "https://mcp.example/mcp"),
        ("HTTPS://MCP.Example:443/Mcp", "https://mcp.example/Mcp"),
        ("https://mcp.example/", "https://mcp.example"),
        ("https://mcp.example", "https://mcp.example"),
        ("https://mcp.example/mcp/", "https://mcp.example/mcp/"),
        ("https://mcp.example:8443/?tenant=1", "https://mcp.example:8443/?tenant=1"),
        ("http://[::1]:8000/mcp", "http://[::1]:8000/mcp"),
    ],
)
def test_a_resource_is_the_most_specific_address_in_canonical_form(url: str, resource: str) -> None:
    assert canonical_resource(url) == resource


@requirement("A-07")
def test_a_resource_has_no_fragment() -> None:
    with pytest.raises(InvalidRequestError):
        canonical_resource("https://mcp.example/mcp#part")


@requirement("D-14")
@pytest.mark.parametrize(
    "resource",
    [
        "https://mcp.example/a/b",
        "https://mcp.example/a/b/",
        "https://mcp.example/a",
        "https://mcp.example/a/",
        "https://mcp.example/",
        "https://mcp.example",
        "HTTPS://MCP.example:443/a/b",
    ],
)
def test_the_same_address_and_its_parents_stand_for_a_server(resource: str) -> None:
    assert resource_covers(resource, url="https://mcp.example/a/b")


@requirement("D-14")
@pytest.mark.parametrize(
    "resource",
    [
        "https://mcp.example/a/b/c",
        "https://mcp.example/a/bb",
        "https://mcp.example/a/B",
        "https://mcp.example/a/c",
        "https://mcp.example/ab",
        "http://mcp.example/a/b",
        "https://mcp.example:8443/a/b",
        "https://evil.example/a/b",
        "https://mcp.example.evil.example/a/b",
        "https://mcp.example/a/b?x=1",
        "https://mcp.example/a/b#x",
        "https://mcp.example/a/../a/b",
        "https://user@mcp.example/a/b",
        "https://2130706433/a/b",
        "urn:mcp",
        "",
    ],
)
def test_other_addresses_do_not_stand_for_a_server(resource: str) -> None:
    assert not resource_covers(resource, url="https://mcp.example/a/b")


def test_a_resource_with_a_query_stands_for_the_same_address_only() -> None:
    assert resource_covers("https://mcp.example/a?t=1", url="https://mcp.example/a?t=1")
    assert not resource_covers("https://mcp.example/a?t=1", url="https://mcp.example/a?t=2")
    assert resource_covers("https://mcp.example/a", url="https://mcp.example/a?t=2")


def test_a_server_url_that_is_none_is_an_error() -> None:
    with pytest.raises(InvalidRequestError):
        resource_covers("https://mcp.example", url="mcp.example")


SEGMENTS = st.lists(st.text("abc-", min_size=1, max_size=3), max_size=4)


@given(parent=SEGMENTS, rest=SEGMENTS, other=SEGMENTS)
def test_a_path_is_covered_exactly_by_its_prefixes_of_whole_segments(
    parent: list[str], rest: list[str], other: list[str]
) -> None:
    url = "/".join(["https://mcp.example", *parent, *rest])
    assert resource_covers("/".join(["https://mcp.example", *parent]), url=url)
    is_prefix = [*parent, *rest][: len(other)] == other
    assert resource_covers("/".join(["https://mcp.example", *other]), url=url) is is_prefix


@given(st.text(max_size=50))
def test_the_canonical_form_is_its_own_canonical_form(text: str) -> None:
    try:
        resource = canonical_resource("https://mcp.example/" + text)
    except (InvalidRequestError, BlockedUrlError):
        return
    assert canonical_resource(resource) == resource
