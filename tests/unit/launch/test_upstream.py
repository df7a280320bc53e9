import json
import subprocess
import sys
import urllib.request

import pytest
from click.testing import CliRunner

from usagetap.launch.upstream import upstream
from usagetap.upstream import server


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [(KeyboardInterrupt(), 0, ""), (ValueError("no such word"), 1, "Error: no such word\n")],
)
def test_the_end_of_serving(monkeypatch, raised, code, said):
    def serve(host, port, **conduct):
        raise raised

    monkeypatch.setattr(server, "serve", serve)
    done = CliRunner().invoke(upstream, [])
    assert (done.exit_code, done.output) == (code, said)


def test_it_answers_as_told():
    command = [sys.executable, "-m", "usagetap", "upstream", "--port", "0", "--behaviour", "input=7"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        try:
            url = running.stderr.readline().split()[-1]
            body = json.dumps({"model": "m", "messages": []}).encode()
            request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"x-upstream": "output=5"})
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=10) as response:
                usage = json.load(response)["usage"]
        finally:
            running.terminate()
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (7, 5)
