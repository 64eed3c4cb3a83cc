"""What a flow tried, step by step, fit to be shown: no query, no header, no body."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

MAX_TEXT_CHARACTERS: Final = 500

_USER = re.compile(r"//[^/@]*@")
_NOT_SHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One request and what came of it.

    Attributes:
        step: Which one, in a word or two.
        url: Without user name, query and fragment.
        status: HTTP status; None where there was no response.
        duration_ms: Whole milliseconds.
        verdict: What we made of it, in our own words.
    """

    step: str
    url: str
    status: int | None
    duration_ms: int
    verdict: str = ""


@dataclass(slots=True)
class Trace:
    """The steps of one attempt, oldest first."""

    steps: list[TraceStep] = field(default_factory=list)

    def add(self, step: str, url: str, status: int | None, duration_ms: int) -> None:
        """Append a step; the URL loses its user name, query and fragment here."""
        self.steps.append(TraceStep(_shown(step), _shown(_redacted(url)), status, duration_ms))

    def verdict(self, text: str) -> None:
        """Put the verdict onto the last step; with no step yet, onto one without a request."""
        if not self.steps:
            self.steps.append(TraceStep("", "", None, 0))
        self.steps[-1] = replace(self.steps[-1], verdict=_shown(text))

    def as_json(self) -> list[dict[str, Any]]:
        """Return the steps as JSON values, one object each with the members of `TraceStep`."""
        return [asdict(step) for step in self.steps]


def _redacted(url: str) -> str:
    return _USER.sub("//", url.partition("#")[0].partition("?")[0], count=1)


def _shown(text: str) -> str:
    return _NOT_SHOWN.sub("", text)[:MAX_TEXT_CHARACTERS]
