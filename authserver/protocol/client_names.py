"""The name a client gives itself: what may be shown at all, and whether it looks like somebody else's."""

from __future__ import annotations

import unicodedata
from typing import Final

from .errors import InvalidClientMetadataError

LONGEST_NAME: Final = 64

# Unicode categories that nobody sees, or that turn the direction of what stands beside them.
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
# Letters and marks that are drawn as nothing.
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | frozenset(
    chr(code)
    for start, end in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
    for code in range(start, end + 1)
)
_MARKUP: Final = frozenset("<>")
_MOST_MARKS_ON_A_LETTER: Final = 2

# Names that people would trust without looking; whoever really is one of these can be verified by an administrator.
RESERVED: Final = (
    "Claude", "Anthropic", "ChatGPT", "OpenAI", "Codex", "Copilot", "GitHub", "Microsoft", "Visual Studio Code",
    "VS Code", "Cursor", "Windsurf", "Google", "Gemini", "Apple", "Amazon", "JetBrains", "Zed", "Goose",
    "MCP Inspector", "MCP OAuth Site", "Administrator", "Security", "Support",
)  # fmt: skip

_LOOK_ALIKES: Final = str.maketrans(
    {
        **dict(zip("авеёзіјкӏмнорстухѕԁԛԝһґпг", "abeeeljklmhopctyxsdqwhrnr", strict=True)),
        **dict(zip("αβεηικνορτυχωγσ", "abenlkvoptuxwyo", strict=True)),
        **dict(zip("ıɡɑɩⅼℓ|!10345$@", "lgalllllloeassa", strict=True)),
        "i": "l",
    }
)


def clean_name(value: object) -> str:
    """Return a client's name as it may be kept and shown; a missing one is empty.

    Returns:
        In Unicode's composed form, with single spaces, at most 64 characters.

    Raises:
        InvalidClientMetadataError: Not a text, too long, markup, or characters that cannot be seen or that change the
            direction of others.

    Spec: RFC 7591 §2, §5; security notes AS02, AS03.
    """
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST_NAME * 4:
        raise InvalidClientMetadataError(f"client_name has to be a text of at most {LONGEST_NAME} characters")
    name = unicodedata.normalize("NFC", value)
    if any(_is_hidden(character) for character in name) or _has_stacked_marks(name):
        raise InvalidClientMetadataError("client_name holds markup or characters that cannot be seen")
    name = " ".join(name.split())
    if len(name) > LONGEST_NAME:
        raise InvalidClientMetadataError(f"client_name has to be a text of at most {LONGEST_NAME} characters")
    return name


def skeleton(name: str) -> str:
    """Return what is left of a name when everything that looks alike is the same. Two equal ones look alike.

    Spec: UTS 39 §4, with a table of our own for the letters that occur in such tricks; security notes AS03.
    """
    apart = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(letter for letter in apart if not unicodedata.combining(letter)).translate(_LOOK_ALIKES)
    return "".join(letter for letter in plain if letter.isalnum()).replace("rn", "m").replace("vv", "w")


def claims_a_known_name(name: str) -> bool:
    """Tell whether a name is, holds, or looks like one that people would trust."""
    letters = skeleton(name)
    words = {skeleton(word) for word in name.split()}
    return any(known in words or (len(known) > 3 and known in letters) for known in _RESERVED_SKELETONS)


def _is_hidden(character: str) -> bool:
    return character in _MARKUP or character in _BLANK or unicodedata.category(character) in _INVISIBLE


def _has_stacked_marks(name: str) -> bool:
    run = 0
    for character in name:
        run = run + 1 if unicodedata.combining(character) else 0
        if run > _MOST_MARKS_ON_A_LETTER:
            return True
    return False


_RESERVED_SKELETONS: Final = tuple(skeleton(name) for name in RESERVED)
