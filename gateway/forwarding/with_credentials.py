"""A request with a person's credentials; where they are bound to a key, with a fresh proof. RFC 9449 §7, §9."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from oauthflow.egress.relay_client import RawHeader, RelayClient, RelayedAnswer

from ..targets.target import Target

Headers = Sequence[RawHeader]


def send_with_credentials(
    client: RelayClient,
    target: Target,
    method: str,
    *,
    url: str,
    headers: Headers = (),
    lines: bytes = b"",
    body: bytes | None,
) -> Awaitable[RelayedAnswer]:
    """Send it, and once more where nothing but the server's nonce was missing.

    Args:
        client: To send with.
        target: Whose credentials.
        method: Of the request.
        url: At the target's server.
        headers: All others but `lines`.
        lines: See `RelayClient.send`.
        body: None for a request without one.

    Raises:
        FlowError: As `RelayClient.send`.
    """
    if target.credentials.bound is None:
        return client.send(method, url, headers=[*headers, *target.credentials.headers], lines=lines, body=body)
    return _send_with_proof(client, target, method, url=url, headers=headers, lines=lines, body=body)


async def _send_with_proof(
    client: RelayClient, target: Target, method: str, *, url: str, headers: Headers, lines: bytes, body: bytes | None
) -> RelayedAnswer:
    def sent() -> Awaitable[RelayedAnswer]:
        proven = [*headers, *target.headers_for(method, url=url)]
        return client.send(method, url, headers=proven, lines=lines, body=body)

    answer = await sent()
    if _asks_for_nonce(target, answer, url=url):
        answer.close()
        answer = await sent()
    return answer


def _asks_for_nonce(target: Target, answer: RelayedAnswer, *, url: str) -> bool:
    nonce, challenge = (answer.header(name).decode("latin-1") for name in (b"dpop-nonce", b"www-authenticate"))
    return target.note_nonce(answer.status, nonce=nonce, www_authenticate=challenge, url=url)
