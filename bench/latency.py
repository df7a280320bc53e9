"""How much later a client has each chunk: through a mitmdump with the addon, one that only streams, and without any.

    python -m bench.latency [--rounds 8]

The upstream writes the time into each chunk as it sends it, every two milliseconds; the client notes when it has it.
The first chunk is timed from the moment the request was sent, so it holds all that is done to a request: a small one,
and one with a prompt of 200 KB. Rounds alternate, so that whatever else the machine does meets all of them.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import time
from contextlib import ExitStack

from bench.proxied import ADDON, Server, mitmdump
from bench.throughput import STREAM_ONLY

FRAMES = 300
EVERY = 0.002
FRAME = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1761000000,"model":"gpt-4o-mini",'
    b'"choices":[{"index":0,"delta":{"content":"%d"},"finish_reason":null}],"usage":null}\n\n'
)
LAST = b'data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":300}}\n\ndata: [DONE]\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PROMPTS = {"small request": 10, "200 KB request": 200_000}


class Paced(Server):
    """Answers each request with a stream whose chunks say when they were sent."""

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as told:
            length = 0
            while (line := told.readline()) != b"\r\n":
                if not line:
                    return  # the look whether the proxy listens
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            told.read(length)
            client.sendall(HEAD)
            for _ in range(FRAMES):
                frame = FRAME % time.perf_counter_ns()
                client.sendall(b"%x\r\n%b\r\n" % (len(frame), frame))
                time.sleep(EVERY)
            client.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(LAST), LAST))


def ask(port: int, size: int) -> tuple[float, list[float]]:
    """Microseconds until the first chunk, and from the sending of each later one to its arrival."""
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "x " * (size // 2)}]})
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    late: list[float] = []
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = time.perf_counter_ns()
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        text = b""
        while not text.endswith(b"0\r\n\r\n"):
            text = client.recv(65536)
            now = time.perf_counter_ns()
            at = text.rfind(b'"content":"')
            if at >= 0:
                late.append((now - int(text[at + 11 : text.index(b'"', at + 11)]) if late else now - started) / 1000)
    return late[0], late[1:]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    rounds = parser.parse_args().rounds
    upstream = Paced()
    with ExitStack() as stack:
        ports = {"no proxy": upstream.port}
        for name, script in (("stream only", STREAM_ONLY), ("addon", ADDON)):
            proxy = stack.enter_context(mitmdump(upstream.url, "-s", script))
            ports[name] = proxy.port
        firsts: dict[tuple[str, str], list[float]] = {}
        laters: dict[str, list[float]] = {}
        for round_number in range(rounds + 1):
            for prompt, size in PROMPTS.items():
                for name, port in ports.items():
                    first, later = ask(port, size)
                    if round_number:  # the first warms up
                        firsts.setdefault((prompt, name), []).append(first)
                        laters.setdefault(name, []).extend(later)
    print(f"{'microseconds':34} {'no proxy':>10} {'stream only':>12} {'addon':>10}")
    for prompt in PROMPTS:
        row = [statistics.median(firsts[prompt, name]) for name in ports]
        print(f"{f'first chunk, {prompt}, median':34} {row[0]:10.0f} {row[1]:12.0f} {row[2]:10.0f}")
    for label, part in (("median", 0.5), ("99 of 100 within", 0.99), ("999 of 1,000 within", 0.999)):
        row = [sorted(later)[int(part * (len(later) - 1))] for later in laters.values()]
        print(f"{f'each later chunk, {label}':34} {row[0]:10.0f} {row[1]:12.0f} {row[2]:10.0f}")


if __name__ == "__main__":
    main()
