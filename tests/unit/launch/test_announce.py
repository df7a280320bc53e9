import json
import os
import threading
from types import SimpleNamespace

import pytest
from mitmproxy import ctx

from usagetap.launch import announce
from usagetap.launch.announce import Announce


@pytest.fixture
def proxy(monkeypatch, tmp_path):
    """A stand-in for mitmproxy, and the pipe that is its standard input."""
    stopped = threading.Event()
    updates = {}
    server = SimpleNamespace(listen_addrs=lambda: [("127.0.0.1", 4711)], connections={})
    master = SimpleNamespace(addons={"proxyserver": server}, shutdown=stopped.set)
    monkeypatch.setattr(ctx, "master", master, raising=False)
    monkeypatch.setattr(ctx, "options", SimpleNamespace(update=lambda **named: updates.update(named)), raising=False)
    monkeypatch.setenv("USAGETAP_READY", str(tmp_path / "ready.json"))
    monkeypatch.setattr(announce, "FAREWELL", 60.0)
    end, leash = os.pipe()
    with os.fdopen(end) as stdin, os.fdopen(leash, "wb") as held:
        monkeypatch.setattr("sys.stdin", stdin)
        yield SimpleNamespace(
            stopped=stopped, updates=updates, clients=server.connections, leash=held, ready=tmp_path / "ready.json"
        )
        held.close()
        assert stopped.wait(10)


def test_it_says_where_the_proxy_listens(proxy):
    Announce().running()
    assert json.loads(proxy.ready.read_text()) == {"listen": [["127.0.0.1", 4711]]}
    assert [path.name for path in proxy.ready.parent.iterdir()] == ["ready.json"]


def test_the_end_of_the_leash_stops_the_proxy_and_nothing_else_does(proxy):
    Announce().running()
    proxy.leash.write(b"not an end")
    proxy.leash.flush()
    assert not proxy.stopped.is_set()
    proxy.leash.close()
    assert proxy.stopped.wait(10)


def test_clients_may_leave_before_the_proxy_stops(proxy):
    proxy.clients["one"] = object()
    Announce().running()
    proxy.leash.close()
    assert not proxy.stopped.wait(0.1)
    proxy.clients.clear()
    assert proxy.stopped.wait(10)


def test_a_client_that_stays_does_not_keep_it(proxy, monkeypatch):
    monkeypatch.setattr(announce, "FAREWELL", 0.01)
    proxy.clients["one"] = object()
    Announce().running()
    proxy.leash.close()
    assert proxy.stopped.wait(10)


def test_credentials_come_by_the_environment_and_do_not_stay_there(proxy, monkeypatch):
    monkeypatch.setenv("USAGETAP_UPSTREAM_AUTH", "me:secret")
    Announce().running()
    assert proxy.updates == {"upstream_auth": "me:secret"}
    assert "USAGETAP_UPSTREAM_AUTH" not in os.environ
