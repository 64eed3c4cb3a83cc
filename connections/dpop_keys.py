"""The key of a connection to which its tokens are bound. It never leaves this site. RFC 9449."""

from __future__ import annotations

from oauthflow.protocol.signing_key import SigningKey, read_signing_key

from .models import Connection


def dpop_key(connection: Connection) -> SigningKey:
    """Return the connection's key, made at its first use; whoever is first decides.

    Raises:
        SecretUnreadableError: The stored key does not open.
    """
    if not connection.dpop_key_sealed:
        fresh = Connection(pk=connection.pk)
        fresh.dpop_key_sealed = SigningKey.new().as_secret()
        Connection.objects.filter(pk=connection.pk, dpop_key_sealed="").update(
            dpop_key_sealed=fresh.dpop_key_sealed.ciphertext
        )
        connection.refresh_from_db(fields=("dpop_key_sealed",))
    return read_signing_key(connection.dpop_key_sealed.reveal())
