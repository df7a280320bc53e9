"""Recordings come back byte for byte, however they are cut and compressed."""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import socket
from pathlib import Path

import pytest

from usagetap.upstream import running_upstream
from usagetap.upstream.compress import decompress_request
from usagetap.upstream.replay import load, read_folder

BODY = 'data: {"text":"größer 日本語 🙂"}\r\n\r\ndata: [DONE]\r\n\r\n'.encode() * 30
RECORD = {
    "id": "one",
    "status": 429,
    "stream": True,
    "content_type": "text/event-stream; charset=utf-8",
    "usage_headers": {"x-prompt-tokens": "3"},
    "body": BODY.decode(),
}
BINARY = {"id": "two", "status": 200, "stream": False, "body_b64": base64.b64encode(b"\x00\xff").decode()}
SOCKET = {
    "id": "three",
    "messages": [
        {"dir": "received", "kind": "message", "data": "hello"},
        {"dir": "sent", "kind": "message", "data": "?"},
        {"dir": "received", "kind": "message", "data": "answer"},
        {"dir": None, "kind": "close", "data": "null"},
    ],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "http.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, (RECORD, BINARY, SOCKET))).encode()))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    case = tmp_path_factory.mktemp("captures") / "openai_chat" / "plain"
    case.mkdir(parents=True)
    (case / "response.body").write_bytes(BODY)
    (case / "meta.toml").write_text(
        'status = 200\ncontent_type = "text/event-stream"\n[headers]\ncontent-type = "text/event-stream"\nx-id = "7"\n'
    )
    return case


@pytest.fixture(scope="module")
def upstream(corpus, folder):
    with running_upstream(replay=[corpus, folder.parents[1]]) as running:
        yield running


@pytest.mark.parametrize("words", ["", "slice=1", "slice=-1", "slice=-1;encoding=gzip", "encoding=br+zstd"])
def test_a_recording_comes_back_byte_for_byte(upstream, ask, words):
    answer = ask(upstream, words, path="/anything", x_capture="one")
    assert answer.status == 429
    assert "content-type: text/event-stream; charset=utf-8\r\n" in answer.head
    assert "x-prompt-tokens: 3" in answer.head
    encoding = answer.head.partition("content-encoding: ")[2].split("\r\n")[0]
    assert decompress_request(b"".join(answer.chunks), encoding) == BODY


def test_it_is_cut_as_told(upstream, ask):
    assert len(ask(upstream, x_capture="one").chunks) == 2
    assert len(ask(upstream, "slice=1", x_capture="one").chunks) == len(BODY) + 1
    once, again, other = (ask(upstream, f"slice=-1;seed={seed}", x_capture="one").chunks for seed in (1, 1, 2))
    assert once == again != other


def test_what_was_no_stream_has_a_length(upstream, ask):
    answer = ask(upstream, x_capture="two")
    assert (answer.body, "content-length: 2" in answer.head) == (b"\x00\xff", True)


def test_the_request_may_be_anything(upstream):
    request = (
        b"POST /v1/audio HTTP/1.1\r\nx-capture: two\r\ncontent-length: 4\r\nconnection: close\r\n\r\n\x00\x01{\xff"
    )
    with socket.create_connection((upstream.host, upstream.port), timeout=10) as line:
        line.sendall(request)
        assert line.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_a_folder_of_captures(upstream, ask, folder):
    answer = ask(upstream, x_capture="openai_chat/plain")
    assert b"".join(answer.chunks) == BODY
    assert "x-id: 7" in answer.head
    assert answer.head.count("content-type") == 1
    assert read_folder(folder).stream


def test_an_unknown_recording_is_a_404_with_its_name(upstream, ask):
    answer = ask(upstream, x_capture="none")
    assert (answer.status, "no capture none" in answer.json["error"]["message"]) == (404, True)


def test_a_recorded_socket(corpus):
    assert load([corpus])["three"].messages == ((True, "hello"), (False, "?"), (True, "answer"))


def test_a_folder_with_a_socket_has_its_messages(tmp_path):
    (tmp_path / "meta.toml").write_text('url = "wss://api.openai.com/v1/realtime"')
    (tmp_path / "response.body").write_text('{"dir":"received","data":"hello"}\n{"dir":"sent","data":"?"}\n')
    found = read_folder(tmp_path)
    assert (found.status, found.messages) == (101, ((True, "hello"), (False, "?")))


def test_what_is_no_corpus_is_named_with_its_line(tmp_path):
    path = tmp_path / "wrong.jsonl"
    path.write_text(json.dumps(RECORD) + "\n{}\n")
    with pytest.raises(ValueError, match=r"wrong\.jsonl, line 2: not a recorded exchange"):
        load([path])
    with pytest.raises(OSError, match="missing"):
        load([tmp_path / "missing.jsonl"])


@pytest.mark.corpus
@pytest.mark.skipif(not os.environ.get("USAGETAP_CORPUS"), reason="USAGETAP_CORPUS does not name ../shared/corpus")
def test_a_sample_of_the_corpus(ask):
    paths = sorted(Path(os.environ["USAGETAP_CORPUS"]).glob("*.jsonl.gz"))
    captures = load(paths)
    sample = random.Random(1).sample([each for each in captures.values() if not each.messages], 50)
    with running_upstream(replay=paths) as up:
        for number, capture in enumerate(sample):
            answer = ask(up, f"slice=-1;seed={number}", x_capture=capture.id)
            body = b"".join(answer.chunks) if capture.stream else answer.body
            assert (answer.status, body) == (capture.status, capture.body)
