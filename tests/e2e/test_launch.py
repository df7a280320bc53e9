"""The commands as a person types them: real processes, real clients, a real (fake) provider behind TLS."""

import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from usagetap.launch.bundle import CERTIFICATE, ca_certificate
from usagetap.upstream.server import running_upstream

ADDON = Path(__file__).parents[2] / "addon"
USAGETAP = [sys.executable, "-m", "usagetap"]
BODY = '{"model": "gpt-4o-mini", "stream": true, "messages": [{"role": "user", "content": "?"}]}'

PYTHON_OPENAI = """
import sys
from openai import OpenAI
client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="sk-x", max_retries=0)
stream = client.chat.completions.create(model="gpt-4o-mini", stream=True, messages=[{"role": "user", "content": "?"}])
assert all(chunk.choices for chunk in stream), "an unasked usage frame came through"
"""
PYTHON_URLLIB = f"""
import sys, urllib.request
request = urllib.request.Request(sys.argv[1] + "/v1/chat/completions", {BODY!r}.encode())
assert b"[DONE]" in urllib.request.urlopen(request).read()
"""
NODE_FETCH = f"""
const response = await fetch(process.argv[2] + '/v1/chat/completions', {{method: 'POST', body: {BODY!r}}})
if (!(await response.text()).includes('[DONE]')) process.exit(9)
"""


@pytest.fixture(scope="module")
def provider():
    with running_upstream(tls=True) as upstream:
        yield upstream


@pytest.fixture
def environment(provider, tmp_path):
    """A user's environment: own home, own database, and a company's root (the provider's certificate) in a variable."""
    (tmp_path / "corp.pem").write_bytes(provider.certificate)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR", "SYSTEMROOT")}
    return kept | {
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ADDON),
        "SSL_CERT_FILE": str(tmp_path / "corp.pem"),
        "USAGETAP_DB": str(tmp_path / "usage.db"),
    }


def rows(environment, columns="status, end_reason, input_tokens, output_tokens"):
    with closing(sqlite3.connect(environment["USAGETAP_DB"])) as db:
        return db.execute(f"SELECT {columns} FROM usage ORDER BY id").fetchall()


def usagetap(environment, *arguments, **options):
    return subprocess.run(
        [*USAGETAP, *arguments], env=environment, capture_output=True, text=True, timeout=90, check=False, **options
    )


def client(name, url, folder):
    """The command line of a client that makes one streamed call, and fails if it is not right."""
    if name == "curl":
        return ["curl", "-sSf", "-o", os.devnull, f"{url}/v1/chat/completions", "-d", BODY]
    text = {"python-openai": PYTHON_OPENAI, "python-urllib": PYTHON_URLLIB, "node-fetch": NODE_FETCH}[name]
    script = folder / ("call.mjs" if name == "node-fetch" else "call.py")
    script.write_text(text)
    return ["node" if name == "node-fetch" else sys.executable, str(script), url]


@pytest.mark.parametrize("name", ["curl", "python-openai", "python-urllib", "node-fetch"])
def test_exec_sees_a_call_of_every_client(provider, environment, tmp_path, name):
    command = client(name, provider.url, tmp_path)
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    done = usagetap(environment, "exec", "--", *command)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert rows(environment) == [("ok", "complete", 11, 5)]
    assert "gpt-4o-mini" in done.stderr


def test_exec_passes_input_output_and_exit_code(environment):
    done = usagetap(environment, "exec", "-q", "--", "sh", "-c", "cat; echo err >&2; exit 42", input="in")
    assert (done.returncode, done.stdout, done.stderr) == (42, "in", "err\n")


def test_exec_passes_a_signal_and_writes_the_row(provider, environment):
    """SIGTERM in mid-stream: the command ends by it, and its stream has an honest row."""
    script = (
        f"curl -sN {provider.url}/v1/chat/completions -H 'x-upstream: chunks=3;hold=1' -d '{BODY}' & "
        "trap 'kill $!; exit 9' TERM; echo started; wait"
    )
    command = [*USAGETAP, "exec", "-q", "--", "sh", "-c", script]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        try:
            lines = iter(running.stdout.readline, "")
            assert next(line for line in lines if line.startswith("data:"))
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 9
        finally:
            running.terminate()
    assert rows(environment, "status, end_reason") == [("aborted", "client_disconnected")]


def test_what_the_command_started_may_end_a_little_later(provider, environment):
    script = (
        f"curl -sN {provider.url}/v1/chat/completions -H 'x-upstream: chunks=3;hold=1' -d '{BODY}' > ~/out & "
        "until grep -q data: ~/out; do sleep 0.02; done; { sleep 0.4; kill $!; } & exit 9"
    )
    assert usagetap(environment, "exec", "-q", "--", "bash", "-c", script).returncode == 9
    assert rows(environment, "status, end_reason") == [("aborted", "client_disconnected")]


def test_exec_inside_exec_counts_once(provider, environment, tmp_path):
    inner = client("curl", provider.url, tmp_path)
    done = usagetap(environment, "exec", "-q", "--", *USAGETAP, "exec", "-q", "--", *inner)
    assert done.returncode == 0, done.stderr
    assert len(rows(environment)) == 1


def test_exec_behind_a_companys_proxy(provider, environment, tmp_path):
    """The outer proxy stays in the path: it sees the CONNECT of ours."""
    with plain_proxy() as (port, connects):
        behind = environment | {"HTTPS_PROXY": f"http://127.0.0.1:{port}"}
        call = ["curl", "-sSf", "-o", os.devnull, "https://api.openai.com/v1/chat/completions", "-d", BODY]
        done = usagetap(behind, "exec", "-q", "--", *call)
        assert done.returncode != 0, "the plain proxy answers 502"
    assert set(connects) == {"CONNECT api.openai.com:443 HTTP/1.1"}


@contextmanager
def plain_proxy():
    """A proxy that notes what it is asked and refuses it."""
    connects = []

    def serve(server):
        with suppress(OSError):  # the end of the test closes the socket
            while True:
                connection, _ = server.accept()
                with connection:
                    connects.append(connection.recv(4096).split(b"\r\n")[0].decode())
                    connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1], connects
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@contextmanager
def running(environment, *arguments):
    """`usagetap run` on a free port: yields the process and the port; ended by SIGTERM."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    command = [*USAGETAP, "run", "--port", str(port), *arguments]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            said = []
            while not said or "listening at" not in said[-1]:
                said.append(process.stdout.readline())
                assert said[-1], f"the proxy ended: {''.join(said)}{process.stderr.read()}"
            yield process, port
        finally:
            process.terminate()
            process.stdout.read()
            process.stderr.read()
    assert process.returncode == 0


def issuer(port, host, upstream_port):
    """Who signed the certificate that a client is shown for `host` through the proxy."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        raw.sendall(f"CONNECT {host}:{upstream_port} HTTP/1.1\r\nhost: {host}:{upstream_port}\r\n\r\n".encode())
        assert b" 200 " in raw.recv(4096).split(b"\r\n")[0]
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(raw, server_hostname="localhost") as secure:
            return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True))


def test_only_llm_leaves_the_tls_of_others_alone(environment, tmp_path):
    with running_upstream(tls=True, host="127.0.0.2") as other, running_upstream(tls=True) as mine:
        own = [CERTIFICATE.search(upstream.certificate).group() for upstream in (other, mine)]
        hosts = f"usage_hosts=127.0.0.1:{mine.port}"
        with running(environment, "--only-llm", "--", "--set", "ssl_insecure=true", "--set", hosts) as (_, port):
            assert issuer(port, "127.0.0.2", other.port).strip().encode() == own[0], "passed through undecrypted"
            assert issuer(port, "127.0.0.1", mine.port).strip().encode() != own[1], "decrypted by mitmproxy"


def test_run_listens_on_loopback_and_env_points_at_it(provider, environment, tmp_path):
    with running(environment, "--", "--set", "ssl_insecure=true") as (process, port):
        exports = usagetap(environment, "env", "--port", str(port), "--shell", "sh").stdout
        call = f"curl -sSf {provider.url}/v1/chat/completions -d '{BODY}' -o {os.devnull}"
        subprocess.run(["sh", "-c", f"{exports}\n{call}"], env=environment, check=True, timeout=60)
        addresses = subprocess.run(
            ["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=False
        ).stdout
        line = process.stdout.readline()
        assert line.split(" ", 1)[1:] == ["usage: 11→5 · unpriced · gpt-4o-mini\n"], "the call's only line"
        assert not addresses or [line.split()[3] for line in addresses.splitlines()] == [f"127.0.0.1:{port}"]
    assert rows(environment) == [("ok", "complete", 11, 5)]


def test_ctrl_c_while_mitmproxy_is_imported_ends_without_a_word(environment):
    command = [*USAGETAP, "run", "--port", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while "the result:" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
    assert process.returncode in (0, 130, -signal.SIGINT)


def test_demo_shows_four_honest_rows(environment, tmp_path):
    environment = {name: value for name, value in environment.items() if name not in ("SSL_CERT_FILE", "USAGETAP_DB")}
    kept = tmp_path / "kept.db"
    done = usagetap(environment, "demo", "--db", str(kept))
    assert done.returncode == 0, done.stderr
    ends = [line.split()[-1] for line in done.stderr.splitlines() if line.startswith("gpt-4o-mini")]
    assert ends == ["ok", "client_disconnected", "ok", "upstream_error"]
    assert rows({"USAGETAP_DB": str(kept)}, "input_tokens")[0] == (1200,)
    assert not (tmp_path / ".mitmproxy").exists(), "the demo leaves nothing behind"


def test_doctor_is_content_with_a_fresh_home(environment):
    done = usagetap(environment, "doctor", "--port", "18089")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "starts under mitmdump" in done.stdout


def test_a_cloned_addon_starts_from_any_directory(environment, tmp_path):
    """`mitmdump -s …/addon/usage.py` without the package installed or on the path."""
    bare = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    mitmdump = Path(sys.executable).parent / "mitmdump"
    if not mitmdump.exists():
        pytest.skip("no mitmdump beside this Python")
    command = [str(mitmdump), "--no-server", "-n", "-q", "-s", str(ADDON / "usage.py"), "--options"]
    done = subprocess.run(command, env=bare, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "usage_strip_frame" in done.stdout, done.stderr


def test_the_ca_of_a_run_is_mitmproxys_own(environment, tmp_path):
    usagetap(environment, "exec", "-q", "--", "true")
    assert ca_certificate(tmp_path / ".mitmproxy").is_file()
