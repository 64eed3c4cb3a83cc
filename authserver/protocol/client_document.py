"""Client ID Metadata Documents: whether one is what it says, and for how long."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from oauthflow.protocol.client_auth import NONE, PRIVATE_KEY_JWT
from oauthflow.protocol.client_metadata import is_metadata_document_url
from oauthflow.protocol.messages import Response

from .errors import InvalidClientMetadataError
from .registration import RegisteredMetadata, check_jwks, metadata_of, read_client_json

LONGEST_DOCUMENT_BYTES: Final = 5 * 1024
LONGEST_DOCUMENT_URL: Final = 1000
SHORTEST_LIFE_SECONDS: Final = 60
LONGEST_LIFE_SECONDS: Final = 24 * 60 * 60
USUAL_LIFE_SECONDS: Final = 60 * 60

_MEDIA_TYPE = re.compile(r"application/(?:[\w.-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_MAX_AGE = re.compile(r'max-age="?([0-9]{1,10})"?')
# No two parties agreed on a secret by publishing it.
_SECRET_MEMBERS: Final = ("client_secret", "client_secret_expires_at", "registration_access_token")


def is_document_url(client_id: str) -> bool:
    """Tell whether a client id is the address of a document that we would fetch.

    Spec: Client ID Metadata Document draft §3. R-08, AS04.
    """
    return len(client_id) <= LONGEST_DOCUMENT_URL and is_metadata_document_url(client_id)


def read_client_document(response: Response, *, client_id: str) -> RegisteredMetadata:
    """Check the document that was found at a client id.

    Args:
        response: To a GET of the client id; the body at most 5 KiB of JSON.
        client_id: The address it was fetched from.

    Raises:
        InvalidClientMetadataError: Any status but 200, not one JSON object, of another client, without a name, with a
            secret, or with a member that we do not take.
        UnusableRedirectUriError: A redirect URI that we do not take.

    Spec: Client ID Metadata Document draft §4; RFC 7591 §2. R-09, R-12, AS04.
    """
    document = _document(response)
    if document.get("client_id") != client_id:
        raise InvalidClientMetadataError("the document is that of another client")
    if any(name in document for name in _SECRET_MEMBERS):
        raise InvalidClientMetadataError("the document holds a secret, which everybody can read")
    metadata = metadata_of(document, default_method=NONE, methods=frozenset({NONE, PRIVATE_KEY_JWT}))
    if not metadata.name:
        raise InvalidClientMetadataError("the document has no client_name")
    return metadata


def read_client_keys(response: Response) -> dict[str, Any]:
    """Check the keys that were found at a client's `jwks_uri`.

    Raises:
        InvalidClientMetadataError: Any status but 200, or no set of public keys of at most 5 KiB.

    Spec: RFC 7517 §5; RFC 7591 §2.
    """
    return check_jwks(_document(response))


def document_lifetime_seconds(headers: Mapping[str, str]) -> int:
    """Return for how long a document may be believed: 60 seconds to 24 hours, an hour where nothing is said.

    Args:
        headers: Of the response, by lower-case name.

    Spec: RFC 9111 §4.2.1, §5.2.2. R-10, AS04.
    """
    control = headers.get("cache-control", "").lower()
    if "no-store" in control or "no-cache" in control:
        return SHORTEST_LIFE_SECONDS
    said = _MAX_AGE.search(control)
    seconds = int(said[1]) if said else USUAL_LIFE_SECONDS
    return max(SHORTEST_LIFE_SECONDS, min(seconds, LONGEST_LIFE_SECONDS))


def _document(response: Response) -> dict[str, Any]:
    if response.status != 200 or not _MEDIA_TYPE.fullmatch(response.headers.get("content-type", "")):
        raise InvalidClientMetadataError("there is no JSON document at the address of the client")
    return read_client_json(response.body, most_bytes=LONGEST_DOCUMENT_BYTES)
