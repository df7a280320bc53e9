from __future__ import annotations

import socket
import ssl

import pytest
from cryptography import x509

from usagetap.upstream.tls import self_signed, server_context


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "api.openai.com"])
def test_a_client_that_trusts_the_certificate_gets_through(tls_upstream, name):
    context = ssl.create_default_context(cadata=tls_upstream.certificate.decode())
    context.set_alpn_protocols(["http/1.1"])
    with (
        socket.create_connection((tls_upstream.host, tls_upstream.port), timeout=10) as line,
        context.wrap_socket(line, server_hostname=name) as wrapped,
    ):
        assert wrapped.selected_alpn_protocol() == "http/1.1"


def test_one_that_does_not_does_not(tls_upstream):
    with (
        socket.create_connection((tls_upstream.host, tls_upstream.port), timeout=10) as line,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(line, server_hostname="localhost")


def test_the_certificate_names_its_host():
    certificate = x509.load_pem_x509_certificate(self_signed("llm.example"))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "llm.example" in names.get_values_for_type(x509.DNSName)


def test_the_key_is_not_in_what_clients_get(tls_upstream):
    assert b"PRIVATE" not in tls_upstream.certificate
    assert isinstance(server_context(self_signed(), ["h2"]), ssl.SSLContext)
