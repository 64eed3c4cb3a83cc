"""Ask an issuer about a token, and read what it answers. RFC 7662."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.utils import timezone

from gateway.endpoint.challenges import InvalidTokenError
from oauthflow.egress import Egress
from oauthflow.protocol.client_auth import BASIC, ClientCredentials, authenticate
from oauthflow.protocol.errors import MalformedResponseError, TransportError
from oauthflow.protocol.json_documents import read_json_object
from oauthflow.protocol.messages import Request
from oauthflow.protocol.secret import Secret

from .claims import ExternalToken, read_claims

_BEARER: Final = frozenset({"bearer", "access_token", "urn:ietf:params:oauth:token-type:access_token"})


def introspect(token: str, *, endpoint: str, client_id: str, client_secret: Secret) -> Mapping[str, Any]:
    """Return the issuer's answer; blocks.

    Args:
        token: As it was presented.
        endpoint: Configured, and never taken from a token.
        client_id: Ours at the issuer, proved by `client_secret_basic`.
        client_secret: Of that client.

    Raises:
        FlowError: No answer, or one that RFC 7662 does not know, such as a refusal of our own credentials.

    Spec: RFC 7662 §2.1, §2.3.
    """
    ours = ClientCredentials(client_id, client_secret, BASIC)
    form = {"token": token, "token_type_hint": "access_token"}
    headers, form = authenticate(form, client=ours, audience=endpoint, now=timezone.now())
    request = Request("POST", endpoint, headers={**headers, "Accept": "application/json"}, form=form)
    response = Egress().send(request, step="introspection")
    if response.status >= 500:
        raise TransportError(f"status {response.status}")
    if response.status != 200:
        raise MalformedResponseError(f"status {response.status}")
    answer = read_json_object(response)
    if type(answer.get("active")) is not bool:
        raise MalformedResponseError("it does not say whether the token is active")
    return answer


def read_introspection(answer: Mapping[str, Any], *, issuer: str, audience: str, now: float) -> ExternalToken:
    """Return what an answer says of a good token.

    Args:
        answer: Of `introspect`.
        issuer: Configured; where the answer names one, it has to be this.
        audience: `aud` has to be this. RFC 7662 leaves it optional; without it nobody knows whom the token is for.
        now: Unix seconds.

    Raises:
        InvalidTokenError: Not active, or no bearer access token for us.

    Spec: RFC 7662 §2.2, §4. T-03 to T-05.
    """
    if answer["active"] is not True:
        raise InvalidTokenError("The access token is not active.")
    if answer.get("iss", issuer) != issuer:
        raise InvalidTokenError("The access token is of another issuer.")
    if str(answer.get("token_type", "Bearer")).lower() not in _BEARER:
        raise InvalidTokenError("This is not a bearer token.")
    return read_claims(answer, audience=audience, issuer=issuer, now=now)
