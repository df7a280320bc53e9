"""One file of certificates that trusts what was trusted before, and mitmproxy's CA.

The certificate variables (environment.py) *replace* a program's roots (all but Node's), so the file must hold the
old roots too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from usagetap.launch.environment import CA_VARIABLES, CA_VARIABLES_IF_SET

#: where systems keep their roots in one file: Debian and Arch, Fedora, openSUSE, Alpine and macOS
SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def ca_certificate(confdir: Path) -> Path:
    """Where mitmproxy keeps the certificate of its CA (without the key).

    A CA that the user brought, and one that another process is making just now, may have `mitmproxy-ca.pem` alone:
    key and certificate in one file. `combine` takes certificates only.
    """
    certificate = confdir / "mitmproxy-ca-cert.pem"
    both = confdir / "mitmproxy-ca.pem"
    return both if both.exists() and not certificate.exists() else certificate


def make_ca(confdir: Path) -> Path:
    """The CA's certificate, made on first use just as mitmproxy itself would make it."""
    certificate = ca_certificate(confdir)
    if not certificate.exists():
        from mitmproxy.certs import CertStore

        CertStore.from_store(confdir, "mitmproxy", 2048)
    return certificate


def root_files(environment: Mapping[str, str]) -> list[Path]:
    """The files of roots in force: what the user's variables name, and the system's (or certifi's)."""
    named = {environment[name] for name in (*CA_VARIABLES, *CA_VARIABLES_IF_SET) if environment.get(name)}
    files = [Path(name) for name in sorted(named) if Path(name).is_file()]
    return [*files, system_roots()]


def system_roots() -> Path:
    """The file with the system's roots; certifi's where the system has none (Windows)."""
    for name in SYSTEM_ROOTS:
        if Path(name).is_file():
            return Path(name)
    import certifi

    return Path(certifi.where())


def upstream_roots(environment: Mapping[str, str]) -> list[str]:
    """The mitmproxy settings that make it trust, upstream, the roots that the user's variables name.

    mitmproxy itself reads certifi's alone, so behind a company's TLS inspection every request would fail.
    """
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if environment.get(name) and Path(environment[name]).is_file():
            return [f"ssl_verify_upstream_trusted_ca={environment[name]}"]
    return []


def combine(files: Iterable[Path]) -> bytes:
    """Every certificate of `files`, once each, in order of appearance."""
    seen: dict[bytes, None] = {}
    for file in files:
        for certificate in CERTIFICATE.findall(file.read_bytes()):
            seen.setdefault(certificate.replace(b"\r\n", b"\n"))
    return b"\n".join(seen) + b"\n"


def write_bundle(target: Path, ca: Path, environment: Mapping[str, str]) -> Path:
    """Write the combined file to `target` (mode 0600, swapped in whole) and return it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    content = combine([ca, *root_files(environment)])
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(content)
    partial.replace(target)
    return target
