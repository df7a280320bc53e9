import pytest

from usagetap.launch import demo_client
from usagetap.launch.demo_client import CALLS, LEAVE_AFTER, main
from usagetap.upstream.server import running_upstream


@pytest.mark.parametrize("installed", [True, False], ids=["openai", "http.client"])
def test_four_calls_are_made_and_end_as_they_say(monkeypatch, capsys, installed):
    """Straight to the fake upstream: what the client sees is the same with and without the openai package."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    find = demo_client.importlib.util.find_spec
    monkeypatch.setattr(demo_client.importlib.util, "find_spec", lambda name: find(name) if installed else None)
    with running_upstream() as upstream:
        main(f"{upstream.url}/v1")
        requests = upstream.wait_for(len(CALLS))
    assert [request.json["stream"] for request in requests] == [True] * len(CALLS)
    finished, left, tools, failed = capsys.readouterr().out.splitlines()
    assert finished.startswith("a finished stream: 1")
    assert left == f"a stream that the client leaves: {LEAVE_AFTER} chunks"
    assert tools.startswith("a stream with tool calls: ")
    assert "then" not in finished + left + tools
    assert "The server had an error while generating" in failed
