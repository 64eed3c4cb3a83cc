"""Names that clients give themselves."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authserver.protocol.client_names import claims_a_known_name, clean_name, skeleton
from authserver.protocol.errors import InvalidClientMetadataError
from tests.requirements import requirement


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (None, ""),
        ("", ""),
        ("My  notes \u00a0 program", "My notes program"),
        ("Cafe\u0301", "Café"),
        ("Ключ", "Ключ"),
        ("日本語クライアント", "日本語クライアント"),
        ("AT&T's “best”", "AT&T's “best”"),
        ("n" * 64, "n" * 64),
    ],
)
def test_a_plain_name_is_kept_in_its_composed_form(sent: object, kept: str) -> None:
    assert clean_name(sent) == kept


@requirement("AS02", "AS03")
@pytest.mark.parametrize(
    "name",
    [
        "n" * 65,
        "n" * 65536,
        "<b>Claude</b>",
        "a>b",
        "Claude\u202eedualC",
        "a\u200bb",
        "a\u200db",
        "a\u2066b",
        "a\u00adb",
        "a\ufeffb",
        "a\x00b",
        "a\x07b",
        "a\x1b[2J",
        "a\nb",
        "a\tb",
        "a\r\nb",
        "a\u2028b",
        "a\u034fb",
        "\u3164",
        "a\u2800b",
        "a\ufe0fb",
        "a\U000e0041b",
        "a\ue000b",
        "a\ud800b",
        "Z\u0335\u0322\u031b\u0347algo",
        7,
        [],
        {},
        True,
    ],
)
def test_a_name_with_hidden_characters_markup_or_too_many_is_refused(name: object) -> None:
    with pytest.raises(InvalidClientMetadataError):
        clean_name(name)


@requirement("AS03")
@pytest.mark.parametrize(
    "name",
    [
        "Claude",
        "claude",
        "CLAUDE",
        "Cl\u0430ude",
        "\u0421laude",
        "C1aude",
        "Ciaude",
        "C|aude",
        "Cla\u0301ude",
        "Ｃｌａｕｄｅ",
        "𝐂𝐥𝐚𝐮𝐝𝐞",
        "C l a u d e",
        "Claude-Code",
        "Claude (official)",
        "VS Code",
        "VSC0DE",
        "Visual Studio C\u03bfde",
        "Cursоr",
        "GitHub Copilot",
        "ChatGPT",
        "MCP Inspector",
        "lnspector MCP Inspector",
        "Adrninistrator",
        "VVindsurf",
        "zed",
    ],
)
def test_a_name_that_people_would_trust_is_noticed_in_any_disguise(name: str) -> None:
    assert claims_a_known_name(name)


@pytest.mark.parametrize("name", ["", "My notes", "Reporting", "organized", "Ключ", "日本語", "Inbox sorter"])
def test_an_ordinary_name_claims_nothing(name: str) -> None:
    assert not claims_a_known_name(name)


def test_names_that_look_alike_have_one_skeleton() -> None:
    assert skeleton("Claude") == skeleton("Сlаudе") == skeleton("c-l a.u_d e") != skeleton("Claudia")


@given(st.text(max_size=80))
def test_a_cleaned_name_is_short_visible_and_stays_as_it_is(text: str) -> None:
    try:
        name = clean_name(text)
    except InvalidClientMetadataError:
        return
    assert len(name) <= 64
    assert all(unicodedata.category(letter) not in ("Cc", "Cf") for letter in name)
    assert clean_name(name) == name
