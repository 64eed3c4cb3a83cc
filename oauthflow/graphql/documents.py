"""From the text of a request to a document that may be executed; valid ones are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final

from django.conf import settings
from graphql import (
    DocumentNode,
    GraphQLError,
    NoSchemaIntrospectionCustomRule,
    StringValueNode,
    Visitor,
    parse,
    specified_rules,
    validate,
    visit,
)

from oauthflow.newest import Newest

from .limits import MAX_TOKENS, check_limits
from .schema import schema

_MAX_COMMENTS: Final = 200
_MAX_ERRORS: Final = 5
_MAX_KEPT: Final = 100


class InvalidDocumentError(Exception):
    """The document cannot be executed; `errors` are the caller's own mistakes."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        super().__init__("invalid document")
        self.errors = errors


class _Kept:
    """The valid documents that were asked for last, by hash of their text."""

    def __init__(self) -> None:
        self._documents: Newest[str, DocumentNode] = Newest(most=_MAX_KEPT)
        self._lock = Lock()

    def get(self, key: str) -> DocumentNode | None:
        with self._lock:
            found = self._documents.get(key)
            if found is not None:
                self._documents.move_to_end(key)
            return found

    def put(self, key: str, document: DocumentNode) -> None:
        with self._lock:
            self._documents[key] = document


class _RefuseNul(Visitor):
    """PostgreSQL stores no NUL; in variables the JSON parser has refused it already."""

    def enter_string_value(self, node: StringValueNode, *_: Any) -> None:
        if "\0" in node.value:
            raise GraphQLError("A text holds a character that is no text.", node)


_kept = _Kept()


def executable_document(text: str, *, variables: Mapping[str, Any]) -> DocumentNode:
    """Parse, measure and validate a document.

    Args:
        text: The `query` of the request.
        variables: Its variables, unchecked.

    Raises:
        InvalidDocumentError: It is no GraphQL, asks for too much, or does not fit the schema.
    """
    may_introspect = bool(settings.DEBUG)
    key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() + str(may_introspect)
    kept = _kept.get(key)
    try:
        document = kept or parse(text, max_lexical_tokens=MAX_TOKENS, max_comments=_MAX_COMMENTS)
        check_limits(document, variables=variables, may_introspect=may_introspect)
        if kept is None and "\\u" in text:
            visit(document, _RefuseNul())
    except GraphQLError as error:
        raise InvalidDocumentError([error]) from error
    if kept is None:
        rules = [*specified_rules, *([] if may_introspect else [NoSchemaIntrospectionCustomRule])]
        if errors := validate(schema.graphql_schema, document, rules, max_errors=_MAX_ERRORS):
            raise InvalidDocumentError(errors)
        _kept.put(key, document)
    return document
