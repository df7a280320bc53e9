import ssl
import stat

import pytest

from usagetap.launch.bundle import (
    CERTIFICATE,
    ca_certificate,
    combine,
    make_ca,
    root_files,
    system_roots,
    upstream_roots,
    write_bundle,
)


@pytest.fixture(scope="module")
def confdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("confdir")
    make_ca(folder)
    return folder


def test_the_ca_is_made_once(confdir):
    before = ca_certificate(confdir).read_bytes()
    assert make_ca(confdir).read_bytes() == before


def test_the_bundle_trusts_what_was_trusted_and_the_ca(confdir, tmp_path):
    bundle = write_bundle(tmp_path / "deep" / "bundle.pem", ca_certificate(confdir), {})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(bundle)
    roots = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    roots.load_verify_locations(system_roots())
    trusted = set(context.get_ca_certs(binary_form=True))
    assert trusted >= set(roots.get_ca_certs(binary_form=True))
    assert ssl.PEM_cert_to_DER_cert(ca_certificate(confdir).read_text()) in trusted


def test_no_key_gets_into_a_bundle(confdir, tmp_path):
    both = confdir / "mitmproxy-ca.pem"
    assert b"PRIVATE KEY" in both.read_bytes()
    assert b"PRIVATE KEY" not in write_bundle(tmp_path / "bundle.pem", both, {}).read_bytes()


def test_the_bundle_is_the_users_alone(confdir, tmp_path):
    bundle = write_bundle(tmp_path / "bundle.pem", ca_certificate(confdir), {})
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.pem"]


def test_a_second_bundle_on_top_of_the_first_is_the_same(confdir, tmp_path):
    """`eval "$(usagetap env)"` twice: the variables name the bundle itself."""
    bundle = write_bundle(tmp_path / "bundle.pem", ca_certificate(confdir), {})
    before = set(CERTIFICATE.findall(bundle.read_bytes()))
    again = write_bundle(bundle, ca_certificate(confdir), {"SSL_CERT_FILE": str(bundle)})
    assert set(CERTIFICATE.findall(again.read_bytes())) == before


def test_combine_takes_each_certificate_once_whatever_its_line_ends(confdir, tmp_path):
    crlf = tmp_path / "crlf.pem"
    crlf.write_bytes(ca_certificate(confdir).read_bytes().replace(b"\n", b"\r\n"))
    assert len(CERTIFICATE.findall(combine([ca_certificate(confdir), crlf, crlf]))) == 1


def test_files_of_the_users_variables_are_kept_and_missing_ones_passed_over(confdir):
    mine = str(ca_certificate(confdir))
    named = root_files({"NODE_EXTRA_CA_CERTS": mine, "SSL_CERT_FILE": "/no/such/file", "UNRELATED": mine})
    assert [str(path) for path in named] == [mine, str(system_roots())]


def test_upstream_is_trusted_as_the_user_trusts_it(confdir):
    mine = str(ca_certificate(confdir))
    assert upstream_roots({"SSL_CERT_FILE": mine}) == [f"ssl_verify_upstream_trusted_ca={mine}"]
    assert upstream_roots({"SSL_CERT_FILE": "/no/such/file"}) == []
    assert upstream_roots({}) == []


def test_a_ca_that_the_user_brought_needs_no_second_file(tmp_path):
    (tmp_path / "mitmproxy-ca.pem").write_text("…")
    assert ca_certificate(tmp_path).name == "mitmproxy-ca.pem"
