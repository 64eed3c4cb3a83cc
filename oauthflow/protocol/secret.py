"""A secret in memory that does not print itself."""

from __future__ import annotations

import hmac
from typing import NoReturn, final


@final
class Secret:
    """Text that must not reach a log, a page or a traceback.

    `repr`, `str` and `format` give `***`; pickling is refused. `.reveal()` is the one way to the text, so that
    every use can be found by searching for it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")
