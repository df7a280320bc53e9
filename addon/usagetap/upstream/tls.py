"""A certificate for the fake upstream, signed by itself and made anew for each server."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAMES = ("localhost", "*.localhost", "api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com")


def self_signed(host: str = "127.0.0.1") -> bytes:
    """Key and certificate as one PEM, good for `host`, localhost and the great providers' names, for a week."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "usagetap fake upstream")])
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in NAMES]
    try:
        names.append(x509.IPAddress(ipaddress.ip_address(host)))
    except ValueError:
        names.append(x509.DNSName(host))
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def server_context(pem: bytes, alpn: list[str]) -> ssl.SSLContext:
    """A TLS server with that key and certificate, offering these protocols."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # ssl reads only files; this one is private to us and gone at once
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "upstream.pem")
        path.write_bytes(pem)
        context.load_cert_chain(path)
    context.set_alpn_protocols(alpn)
    return context
