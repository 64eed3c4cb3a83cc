"""Read JSON, JSON with comments, and YAML, without surprises: no duplicate names, aliases, NaN or custom tags."""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import yaml

from .entry import UnreadableFileError

MAX_CHARACTERS: Final = 1024 * 1024

# Every alternative ends at the end of the text at the latest, so that no text is walked twice.
_STRING = r'"(?:\\.|[^"\\])*(?:"|\\?\Z)'
_COMMENT: Final = re.compile(rf"{_STRING}|//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/|\Z)", re.DOTALL)
_TRAILING_COMMA: Final = re.compile(rf"({_STRING})|,(?=\s*[}}\]])", re.DOTALL)


def read_document(document: object) -> dict[str, Any]:
    """Return the object that a file holds.

    Args:
        document: The file's text, at most 1 MiB; or its content, parsed already.

    Raises:
        UnreadableFileError: It is too long, not JSON or YAML, or not an object.
    """
    parsed = _parse(document) if isinstance(document, str) else document
    if not isinstance(parsed, dict):
        raise UnreadableFileError("The file holds no object at its top.")
    try:
        json.dumps(parsed, ensure_ascii=False, default=str, skipkeys=True).encode()
    except (UnicodeEncodeError, ValueError, RecursionError) as error:
        raise UnreadableFileError("The file holds characters that are no text, or is nested too deeply.") from error
    return {str(name): value for name, value in parsed.items()}


def without_comments(text: str) -> str:
    """Turn JSON as editors keep it into JSON: comments and trailing commas go, strings stay as they are."""
    plain = _COMMENT.sub(lambda found: found.group() if found.group().startswith('"') else " ", text)
    return _TRAILING_COMMA.sub(lambda found: found.group(1) or "", plain)


def _parse(text: str) -> Any:
    if len(text) > MAX_CHARACTERS:
        raise UnreadableFileError("The file is longer than 1 MiB.")
    text = text.removeprefix("\ufeff").strip()
    try:
        if text.startswith(("{", "[", "/")):
            return json.loads(without_comments(text), object_pairs_hook=_object, parse_constant=_refuse_constant)
        return _read_yaml(text)
    except json.JSONDecodeError as error:
        raise UnreadableFileError(f"The file is not JSON: {error.msg} in line {error.lineno}.") from error
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UnreadableFileError(f"The file is not readable as YAML: {error.problem or 'an error'}{line}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UnreadableFileError("The file holds characters or numbers that it may not hold.") from error
    except RecursionError as error:
        raise UnreadableFileError("The file is nested too deeply.") from error


def _read_yaml(text: str) -> Any:
    for event in yaml.parse(text):
        if isinstance(event, yaml.AliasEvent):  # They can blow up a small file.
            raise UnreadableFileError("The file uses YAML aliases, which are not read here.")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            raise UnreadableFileError("The file uses YAML tags, which are not read here.")
    loader = _PlainLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UnreadableFileError(f"The name {twice[:60]!r} stands twice in one object.")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise UnreadableFileError(f"The file holds {name}, which is not JSON.")


class _PlainLoader(yaml.SafeLoader):
    """YAML's safe subset; a name that stands twice in one object is refused and does not hide the first."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        found = super().construct_mapping(node, deep=deep)
        if len(found) != len(node.value):
            raise UnreadableFileError(f"A name stands twice in one object in line {node.start_mark.line + 1}.")
        return found
