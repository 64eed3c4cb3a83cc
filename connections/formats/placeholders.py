"""Template placeholders in configuration: never expanded here, so that no setting can pull another one in. U13."""

from __future__ import annotations

import re
from typing import Final

_PLACEHOLDER: Final = re.compile(r"\$\{[^}]*\}?|\{\{.*?(?:\}\}|$)|%\([^)]*\)s?|\{[^{}]*\}", re.DOTALL)


def find_placeholder(text: str) -> str:
    """Return the first `${…}`, `{{…}}`, `%(…)s` or `{…}` of a text, at most 60 characters of it, or `""`."""
    found = _PLACEHOLDER.search(text)
    return found.group()[:60] if found else ""
