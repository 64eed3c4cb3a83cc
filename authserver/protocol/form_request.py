"""The form that a client posts: read strictly, so that nothing in it has two meanings.

Spec: RFC 6749 §3.2, Appendix B; RFC 9700 §2. AS17.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from .errors import InvalidRequestError

LONGEST_BODY: Final = 65_536
_MOST_FIELDS: Final = 40
_FORM_TYPE: Final = re.compile(r"\s*application/x-www-form-urlencoded\s*(?:;\s*charset\s*=\s*\"?utf-8\"?\s*)?", re.I)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, repr=False)
class FormRequest:
    """A request as it came, from whatever server.

    Attributes:
        method: Upper case.
        query: Of the address, undecoded.
        content_type: As sent; None where there was none.
        authorization: The header, or None.
        body: Complete; at most `LONGEST_BODY` and one byte are needed to know that it is too long.
        request_id: Ties the audit records of this request together.
    """

    method: str
    query: bytes
    content_type: str | None
    authorization: str | None
    body: bytes
    request_id: str = ""


def read_form(request: FormRequest) -> Mapping[str, str]:
    """Return the parameters that have a value.

    Raises:
        InvalidRequestError: Parameters in the query, another type of content, too long, not UTF-8, control characters,
            or a parameter that is repeated.

    Spec: RFC 6749 §3.2: a parameter without a value counts as left out, and none may stand twice. AS17.
    """
    if request.query:
        raise InvalidRequestError("Parameters belong into the body of the request.")
    if not _FORM_TYPE.fullmatch(request.content_type or ""):
        raise InvalidRequestError("The body has to be application/x-www-form-urlencoded.")
    if len(request.body) > LONGEST_BODY:
        raise InvalidRequestError("The request is too long.")
    try:
        text = request.body.decode("utf-8")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise InvalidRequestError("The form cannot be read.") from error
    form = dict(pairs)
    if len(form) != len(pairs):
        raise InvalidRequestError("A parameter is repeated.")
    if any(_CONTROL.search(part) for pair in pairs for part in pair):
        raise InvalidRequestError("A parameter holds control characters.")
    return {name: value for name, value in form.items() if value}
