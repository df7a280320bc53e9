"""Transparent mode, as the README's recipe has it: a client that knows of no proxy, in a network of its own.

Two network namespaces joined by a cable (veth): the client's, and a gateway's with the proxy and the provider. What
comes to the gateway's ports 80 and 443 is redirected to the proxy, which asks the kernel where it was meant to go. The
host's own network is not touched.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

ADDON = Path(__file__).parents[2] / "addon"
USAGETAP = [sys.executable, "-m", "usagetap"]
CLIENT, GATEWAY = f"utc{os.getpid()}", f"utg{os.getpid()}"
ADDRESS = "10.111.7.1"
PROXY_PORT = "8080"
SOMEBODY = "65534"
"""The user whose programs on the gateway itself are redirected; the proxy's own connections are not."""


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"ip {' '.join(words)}: {done.stderr.strip()}")


def inside(namespace, *command):
    return ["ip", "netns", "exec", namespace, *command]


@pytest.fixture(scope="module")
def network():
    """The two namespaces, the cable and the redirection; skipped with the reason where they cannot be had."""
    if sys.platform != "linux":
        pytest.skip("network namespaces are Linux's")
    if os.geteuid() != 0:
        pytest.skip("making a network namespace needs root")
    for tool in ("ip", "iptables", "curl", "setpriv"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    try:
        for namespace in (CLIENT, GATEWAY):
            ip("netns", "add", namespace)
        ip("link", "add", "utveth0", "netns", CLIENT, "type", "veth", "peer", "name", "utveth1", "netns", GATEWAY)
        for namespace, link, address in ((CLIENT, "utveth0", "10.111.7.2/24"), (GATEWAY, "utveth1", f"{ADDRESS}/24")):
            ip("-n", namespace, "addr", "add", address, "dev", link)
            ip("-n", namespace, "link", "set", link, "up")
            ip("-n", namespace, "link", "set", "lo", "up")
        redirect("PREROUTING", "-i", "utveth1", port="443")
        redirect("PREROUTING", "-i", "utveth1", port="80")
        redirect("OUTPUT", "-m", "owner", "--uid-owner", SOMEBODY, port="80")
        yield
    finally:
        for namespace in (CLIENT, GATEWAY):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


def redirect(chain, *which, port):
    rule = ["-t", "nat", "-A", chain, "-p", "tcp", *which, "--dport", port, "-j", "REDIRECT", "--to-ports", PROXY_PORT]
    done = subprocess.run(inside(GATEWAY, "iptables", *rule), capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"iptables: {done.stderr.strip()}")


@contextmanager
def gateway(home):
    """The provider (ports 443 and 80) and the proxy, in the gateway's namespace; all rows are written at the end."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    environment = kept | {"HOME": str(home), "PYTHONPATH": str(ADDON), "USAGETAP_DB": str(home / "usage.db")}
    provider = [*USAGETAP, "upstream", "--host", ADDRESS, "--port"]
    proxy = [*USAGETAP, "run", "--port", PROXY_PORT, "--", "--mode", "transparent", "--set", "ssl_insecure=true"]
    with ExitStack() as stack:
        for command, ready in (
            ([*provider, "443", "--tls", "--no-http2"], "fake upstream"),
            ([*provider, "80"], "fake upstream"),
            (proxy, "listening at"),
        ):
            stack.enter_context(started(inside(GATEWAY, *command), environment, ready))
        yield


@contextmanager
def started(command, environment, ready):
    """A process from its line with `ready` in it until SIGTERM and its end."""
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            await_line(process, ready)
            yield
        finally:
            process.terminate()
            process.stdout.read()


def await_line(process, text):
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    raise AssertionError(f"ended without {text!r}: {''.join(seen)}")


def call(home, *, conduct, after=""):
    """A streamed call by curl to api.openai.com, which is at the gateway's address."""
    script = (
        f"curl -sSfN --cacert {home}/.mitmproxy/mitmproxy-ca-cert.pem --resolve api.openai.com:443:{ADDRESS}"
        f" https://api.openai.com/v1/chat/completions -H 'x-upstream: {conduct}'"
        ' -d \'{"model": "gpt-4o-mini", "stream": true, "messages": []}\'' + after
    )
    return subprocess.run(
        inside(CLIENT, "sh", "-c", script),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )


def rows(home):
    with closing(sqlite3.connect(home / "usage.db")) as db:
        return db.execute("SELECT server_address, status, end_reason, output_tokens FROM usage ORDER BY id").fetchall()


def test_a_client_that_knows_of_no_proxy_is_seen(network, tmp_path):
    with gateway(tmp_path):
        whole = call(tmp_path, conduct="chunks=4")
        assert whole.returncode == 0, whole.stderr
        assert "[DONE]" in whole.stdout
        left = call(tmp_path, conduct="chunks=900;delay=0.01", after=" | head -c 300")
        assert "chat.completion.chunk" in left.stdout
        # a whole call more: by its end, the proxy knows that the one before was left
        assert call(tmp_path, conduct="chunks=4").returncode == 0
    first, second, third = rows(tmp_path)
    assert first == third == ("api.openai.com:443", "ok", "complete", 4)
    assert second[:3] == ("api.openai.com:443", "aborted", "client_disconnected")


def ask(*whence, path, host="usage.it"):
    """Status, policy and body of a page, asked for from a place."""
    command = [*whence, "curl", "-sS", "-m", "20", "-w", "%{stderr}%{http_code} %header{content-security-policy}"]
    done = subprocess.run(
        inside(*command, "--resolve", f"{host}:80:{ADDRESS}", f"http://{host}{path}"),
        capture_output=True,
        text=True,
        check=True,
    )
    status, _, policy = done.stderr.partition(" ")
    return int(status), policy, done.stdout


def test_the_page_comes_at_its_magic_name_to_who_is_on_this_machine(network, tmp_path):
    here = (GATEWAY, "setpriv", f"--reuid={SOMEBODY}", "--clear-groups")
    with gateway(tmp_path):
        assert call(tmp_path, conduct="chunks=4").returncode == 0
        assert ask(*here, path="/")[0] == 302
        status, policy, page = ask(*here, path="/usage")
        assert status == 200
        assert policy.startswith("default-src 'self';")
        assert "gpt-4o-mini" in page
        assert ask(*here, path="/usage/responses.csv")[2].count("\n") == 2
        # through the same proxy, but not on its machine
        status, policy, page = ask(CLIENT, path="/usage")
        assert status == 403
        assert page.startswith("Only for programs on the proxy's own machine")
        # a name that somebody bound to the same address (DNS rebinding) is not ours: it goes where it was meant to go
        status, _, page = ask(*here, path="/usage", host="evil.example")
        assert status == 404
        assert "gpt-4o-mini" not in page
