"""TLS: the name is checked although an address was dialled, and nothing turns the check off."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pytest_django import Settings

from oauthflow.egress import Egress, asynchronous, blocking, guarded_connections, guarded_http_client, resolve
from oauthflow.protocol.errors import TransportError
from oauthflow.protocol.messages import Request
from tests.requirements import requirement

from .loopback import LoopbackServer, http_response, serving


def certificate_for(name: str, folder: Path) -> tuple[Path, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return file, server


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server for as.example, trusted by the guard; every name leads to it."""
    file, server = certificate_for("as.example", tmp_path)
    trusting = ssl.create_default_context(cafile=str(file))
    for module in (blocking, asynchronous):
        monkeypatch.setattr(module, "tls_context", lambda: trusting)
    monkeypatch.setattr(resolve, "lookup", lambda host: [ipaddress.ip_address("127.0.0.1")])
    return server


def watch_names(tls: ssl.SSLContext) -> list[str | None]:
    seen: list[str | None] = []
    tls.sni_callback = lambda connection, name, context: seen.append(name)
    return seen


def url_of(server: LoopbackServer, host: str) -> str:
    return f"https://{host}:{server.port}/token"


@requirement("U-05")
def test_the_pinned_address_is_asked_for_the_name_and_checked_against_it(
    tls: ssl.SSLContext, settings: Settings
) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.0/8",)
    names = watch_names(tls)
    with serving(http_response(), tls=tls) as server:
        assert Egress().send(Request("GET", url_of(server, "as.example"))).status == 200
        with pytest.raises(TransportError):
            Egress().send(Request("GET", url_of(server, "other.example")))
    assert names == ["as.example", "other.example"]
    assert f"\r\nHost: as.example:{server.port}\r\n".encode() in server.requests[0]
    assert len(server.requests) == 1


@requirement("U-05")
async def test_the_asynchronous_client_checks_the_name_as_well(tls: ssl.SSLContext, settings: Settings) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.0/8",)
    names = watch_names(tls)
    with serving(http_response(headers=("Connection: close",)), tls=tls) as server:
        async with guarded_http_client(headers={}, timeout_seconds=2) as client:
            assert (await client.get(url_of(server, "as.example"))).status_code == 200
            with pytest.raises(TransportError):
                await client.get(url_of(server, "other.example"))
    assert names == ["as.example", "other.example"]
    assert len(server.requests) == 1


def test_a_certificate_that_nobody_trusts_is_refused(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, context = certificate_for("localhost", tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(file))
    settings.EGRESS_ALLOW = ("localhost",)
    monkeypatch.setattr(resolve, "lookup", lambda host: [ipaddress.ip_address("127.0.0.1")])
    with serving(http_response(), tls=context) as server, pytest.raises(TransportError):
        Egress().send(Request("GET", url_of(server, "localhost")))
    assert server.requests == []


def test_the_one_context_verifies_names_and_certificates() -> None:
    context = guarded_connections.tls_context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
