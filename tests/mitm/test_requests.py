"""What the upstream gets: the smallest edit, or the client's own bytes. One test for each sentence of the promise."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import brotli
import pytest
import zstandard
from click.testing import CliRunner
from tests.client import CHAT, STREAM, Client, Http1, Http2, Received
from tests.proxy import REDIRECT, USAGE, Mitmdump, running_mitmdump

from usagetap.cli import main
from usagetap.upstream.compress import decompress_request
from usagetap.upstream.exchange import Exchange
from usagetap.upstream.server import Upstream, running_upstream

ODD = '{ "stream":true ,\n\t"temperature" : 1.00e0, "big":1234567890123456789,"é":"\\u00e9 \\/",  "model":"gpt-4o-mini"'
TAIL = "\n }\r\n"
ADDED = b',"stream_options":{"include_usage":true}'


class Sent:
    """One call: what the client got, what the upstream got, the row."""

    def __init__(self, received: Received, arrived: list[Exchange], row: dict[str, Any] | None) -> None:
        self.received = received
        self.arrived = arrived
        self._row = row

    @property
    def body(self) -> bytes:
        """The body as it arrived, once."""
        (exchange,) = self.arrived
        return exchange.body

    @property
    def row(self) -> dict[str, Any]:
        assert self._row is not None, "no row"
        return self._row

    @property
    def asked(self) -> object:
        """`stream_options` as it arrived."""
        return self.arrived[0].json.get("stream_options")


class Sender:
    """Sends through one proxy to one upstream, each call with its own tag."""

    def __init__(self, proxy: Mitmdump, upstream: Upstream, port: int | None = None) -> None:
        self.proxy = proxy
        self.upstream = upstream
        self.port = port or proxy.port
        self.number = 0

    def __call__(
        self,
        body: Any = STREAM,
        path: str = CHAT,
        *,
        client: type[Client] = Http1,
        row: bool = True,
        headers: dict[str, str] | None = None,
        **named: str,
    ) -> Sent:
        self.number += 1
        tag = f"call-{self.port}-{self.number}"
        before = len(self.upstream.requests)
        with client(self.port, tls=client is Http2) as line:
            received = line.post(body, path, headers, **({"x_upstream": "chunks=2", "x_usage_tag": tag} | named)).read()
        assert received.ending == "complete", received
        return Sent(received, self.upstream.requests[before:], self.proxy.row(tag) if row else None)


@pytest.fixture(scope="module")
def send(proxy: Mitmdump, upstream: Upstream) -> Sender:
    return Sender(proxy, upstream)


# -- the edit


def test_every_other_byte_stays(send: Sender) -> None:
    sent = send((ODD + TAIL).encode())
    assert sent.body == ODD.encode() + ADDED + TAIL.encode()
    assert (sent.row["injected"], sent.row["client_include_usage"], sent.row["inject_skipped"]) == (1, None, None)
    assert sent.row["output_tokens"] == 2


def test_content_length_follows(send: Sender) -> None:
    sent = send(STREAM)
    assert sent.arrived[0].header("content-length") == str(len(sent.body))


def test_other_stream_options_stay(send: Sender) -> None:
    sent = send(b'{"model":"m","stream":true,"stream_options": {"include_obfuscation" :false}}')
    assert sent.asked == {"include_usage": True, "include_obfuscation": False}
    assert b'"include_obfuscation" :false}}' in sent.body


def test_null_stream_options_become_ours(send: Sender) -> None:
    assert send(STREAM | {"stream_options": None}).asked == {"include_usage": True}


def test_false_is_overridden(send: Sender) -> None:
    sent = send(STREAM | {"stream_options": {"include_usage": False}})
    assert sent.asked == {"include_usage": True}
    assert (sent.row["client_include_usage"], sent.row["injected"]) == (0, 1)


def test_true_is_left_alone(send: Sender) -> None:
    body = json.dumps(STREAM | {"stream_options": {"include_usage": True}}).encode()
    sent = send(body)
    assert sent.body == body
    assert (sent.row["client_include_usage"], sent.row["injected"]) == (1, 0)


@pytest.mark.parametrize("stream", ["true", 1, None, False, [True], {}])
def test_never_where_stream_is_not_true(send: Sender, stream: object) -> None:
    body = json.dumps({"model": "m", "messages": [], "stream": stream}).encode()
    sent = send(body)
    assert sent.body == body
    assert sent.row["injected"] == 0


def test_never_for_the_responses_api(send: Sender) -> None:
    body = b'{"model":"gpt-4o","input":"?","stream":true}'
    sent = send(body, "/v1/responses")
    assert sent.body == body
    assert sent.row["dialect"] == "openai_responses"


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/completions", "openai_completions"),
        ("/any/prefix/chat/completions", "openai_chat"),
        ("/openai/deployments/d/chat/completions?api-version=2024-10-21", "openai_chat"),
        ("//openai/deployments/d/completions?api-version=2025-01-01-preview", "openai_completions"),
        ("/chat/completions/", "openai_chat"),
    ],
)
def test_matching_is_by_path_on_any_host(send: Sender, path: str, dialect: str) -> None:
    body = {"model": "m", "stream": True, **({"prompt": "?"} if dialect == "openai_completions" else {"messages": []})}
    sent = send(body, path)
    assert sent.row["dialect"] == dialect
    assert sent.asked == {"include_usage": True}


def test_what_is_not_ours_leaves_no_row(send: Sender) -> None:
    before = len(send.proxy.rows())
    send(b'{"stream":true}', "/v1/models/anything", row=False)
    send(STREAM)
    assert len(send.proxy.rows()) == before + 1


# -- codings

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": lambda body: zstandard.ZstdCompressor().compress(body),
}


@pytest.mark.parametrize("coding", ENCODERS)
def test_compressed_bodies_are_edited(send: Sender, coding: str) -> None:
    sent = send(ENCODERS[coding]((ODD + TAIL).encode()), content_encoding=coding)
    assert sent.arrived[0].header("content-encoding") == coding
    assert decompress_request(sent.body, coding) == ODD.encode() + ADDED + TAIL.encode()
    assert sent.row["injected"] == 1


def test_stacked_codings_are_edited(send: Sender) -> None:
    body = brotli.compress(gzip.compress(json.dumps(STREAM).encode()))
    sent = send(body, content_encoding="gzip, br")
    assert json.loads(gzip.decompress(brotli.decompress(sent.body)))["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("coding", "body"),
    [("compress", b"\x1f\x9d\x90"), ("gzip", b"\x1f\x8bnonsense"), ("zstd", b"nonsense"), ("gzip, secret", b"?")],
)
def test_what_cannot_be_decoded_goes_untouched(send: Sender, coding: str, body: bytes) -> None:
    sent = send(body, content_encoding=coding)
    assert sent.body == body
    assert sent.arrived[0].header("content-encoding") == coding
    assert (sent.row["injected"], sent.row["inject_skipped"]) == (0, "encoding")


def test_a_bomb_is_not_expanded(send: Sender) -> None:
    body = gzip.compress(b'{"stream":true,"messages":"' + b"a" * (80 << 20) + b'"}', 9)
    sent = send(body, content_encoding="gzip")
    assert sent.body == body
    assert sent.row["inject_skipped"] == "encoding"


# -- what is left as it is


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"stream":true,"model":"m","stream":true}', "duplicate_keys"),
        (b'{"stream":true,"model":"m","stream_options":{"a":1,"a":2}}', "duplicate_keys"),
        (b'{"stream":true,"model":"m","stream_options":[]}', "stream_options_shape"),
        (b'{"stream":true,"model":"m"', "not_json"),
        (b"stream=true", "not_json"),
        (b'\xff\xfe{"stream":true}', "not_json"),
    ],
)
def test_what_cannot_be_edited_safely_goes_untouched(send: Sender, body: bytes, reason: str) -> None:
    sent = send(body)
    assert sent.body == body
    assert (sent.row["injected"], sent.row["inject_skipped"]) == (0, reason)
    assert f"left as it is: {reason}" in send.proxy.log


def test_an_empty_body_is_nothing_to_edit(send: Sender) -> None:
    sent = send(b"")
    assert sent.body == b""
    assert sent.row["inject_skipped"] is None


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/bedrock/aws4_request, Signature=00"},
        {"content-digest": "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"},
        {"signature-input": 'sig1=("content-digest")'},
        {"x-amz-content-sha256": "00"},
    ],
)
def test_signed_bodies_go_untouched(send: Sender, headers: dict[str, str]) -> None:
    body = json.dumps(STREAM).encode()
    sent = send(body, headers=headers)
    assert sent.body == body
    assert (sent.row["injected"], sent.row["inject_skipped"]) == (0, "signed")


def test_chunked_request_bodies_are_edited(send: Sender) -> None:
    body = json.dumps(STREAM).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, body[at : at + 1]) for at in range(len(body))) + b"0\r\n\r\n"
    sent = send(chunks, transfer_encoding="chunked", content_length="")
    assert sent.asked == {"include_usage": True}


def test_expect_100_continue_is_answered(send: Sender) -> None:
    assert send(STREAM, expect="100-continue").asked == {"include_usage": True}


# -- the tag


def test_the_tag_is_stored_and_removed(send: Sender) -> None:
    sent = send(STREAM)
    assert sent.row["tag"] == f"call-{send.port}-{send.number}"
    assert sent.arrived[0].header("x-usage-tag") is None


@pytest.mark.parametrize("tag", ["x" * 201, "bell\x07", "caf\u00e9\x1b[31m"])
def test_a_tag_that_is_none_is_removed_too(send: Sender, tag: str) -> None:
    sent = send(STREAM, row=False, x_usage_tag=tag)
    assert sent.arrived[0].header("x-usage-tag") is None
    last = send(STREAM).row
    (row,) = send.proxy.ended(1, "id = ?", last["id"] - 1)
    assert row["tag"] is None


# -- options


@pytest.fixture(scope="module")
def other(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Sender]]:
    """A sender through a proxy with other options; one proxy for each set of them."""
    running: dict[str, Sender] = {}
    contexts = []

    def go(**options: object) -> Sender:
        key = repr(options)
        if key not in running:
            context = running_mitmdump(tmp_path_factory.mktemp("other"), f"reverse:{upstream.url}", **options)
            contexts.append(context)
            running[key] = Sender(context.__enter__(), upstream)
        return running[key]

    yield go
    for context in contexts:
        context.__exit__(None, None, None)


def test_merge_keeps_an_explicit_false(other: Callable[..., Sender]) -> None:
    send = other(usage_include="merge")
    body = json.dumps(STREAM | {"stream_options": {"include_usage": False}}).encode()
    sent = send(body)
    assert sent.body == body
    assert (sent.row["end_reason"], sent.row["input_tokens"], sent.row["output_tokens"]) == ("complete", None, None)
    assert send(STREAM).asked == {"include_usage": True}


def test_off_touches_nothing(other: Callable[..., Sender]) -> None:
    send = other(usage_include="off")
    body = json.dumps(STREAM).encode()
    sent = send(body)
    assert sent.body == body
    assert (sent.row["injected"], sent.row["inject_skipped"]) == (0, "off")
    assert sent.row["end_reason"] == "complete"


def test_no_inject_spares_a_host(other: Callable[..., Sender]) -> None:
    sent = other(usage_no_inject="127.0.0.*")(STREAM)
    assert sent.asked is None
    assert sent.row["inject_skipped"] == "no_inject"


def test_continuous_adds_its_key(other: Callable[..., Sender]) -> None:
    assert other(usage_continuous="127.0.0.1")(STREAM).asked == {"include_usage": True, "continuous_usage_stats": True}


def test_model_prefix_is_stripped(other: Callable[..., Sender]) -> None:
    sent = other(usage_model_prefix="openai/")(b'{"stream":true,"model" : "openai/gpt-4o-mini","n":1}')
    assert sent.body == b'{"stream":true,"model" : "gpt-4o-mini","n":1' + ADDED + b"}"
    assert sent.row["request_model"] == "openai/gpt-4o-mini"


def test_hosts_add_and_exclude(other: Callable[..., Sender]) -> None:
    sent = other(usage_hosts="127.0.0.1/custom")(STREAM, "/custom/generate", x_upstream="status=404")
    assert sent.row["dialect"] == "openai_chat"
    excluding = other(usage_hosts="!127.0.0.1/v1/private")
    body = json.dumps(STREAM).encode()
    assert excluding(body, "/v1/private/chat/completions", row=False).body == body
    assert len(excluding.proxy.rows()) == 0


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("usage_include", "always", "must be one of: force, merge, off"),
        ("usage_strip_frame", "yes", "must be one of: never, injected, always"),
        ("usage_idle_timeout", "soon", "must be a number from 0 up"),
        ("usage_retention", "-1", "must be a number from 0 up"),
        ("usage_frame_limit", "12x", "must be a size"),
        ("usage_keep_body", "some", "must be a size"),
        ("usage_hosts", "https://x.test", "write host, host:port"),
        ("usage_tag_header", "a b", "no header name"),
        ("usage_prices", "/nowhere.yaml", "no such file"),
    ],
)
def test_bad_options_are_refused_with_what_is_allowed(tmp_path: Path, option: str, value: str, says: str) -> None:
    proxy = Mitmdump(tmp_path, "regular", **{option: value})
    try:
        assert proxy.wait(20) == 1
        assert says in proxy.log
        assert option in proxy.log
    finally:
        proxy.close()


# -- bodies that mitmproxy streams

LARGE = {"stream_large_bodies": "100"}


def test_streamed_bodies_are_edited(other: Callable[..., Sender]) -> None:
    sent = other(**LARGE)((ODD + ',"pad":"' + "x" * 500_000 + '"' + TAIL).encode())
    assert sent.asked == {"include_usage": True}
    assert sent.arrived[0].header("transfer-encoding") == "chunked"
    assert (sent.row["injected"], sent.row["output_tokens"]) == (1, 2)


def test_streamed_bodies_over_the_bound_go_untouched(other: Callable[..., Sender]) -> None:
    send = other(**LARGE)
    body = (ODD + ',"pad":"' + "x" * (17 << 20) + '"' + TAIL).encode()
    sent = send(body, row=False)
    assert sent.body == body
    assert "left as it is" in send.proxy.log


def test_streamed_bodies_below_the_limit_are_edited(other: Callable[..., Sender]) -> None:
    assert other(**LARGE)(b'{"stream":true,"model":"m"}').asked == {"include_usage": True}


@pytest.mark.parametrize("protocols", ["h2 to h2", "h2 to h1"])
def test_streamed_bodies_over_http2(
    h2_upstream: Upstream, h1_tls_upstream: Upstream, start: Callable[..., Mitmdump], protocols: str
) -> None:
    up = h2_upstream if protocols == "h2 to h2" else h1_tls_upstream
    proxy = start(f"reverse:{up.url}", connection_strategy="eager" if up is h2_upstream else "lazy", **LARGE)
    send = Sender(proxy, up)
    body = json.dumps(STREAM | {"pad": "x" * 50_000}).encode()
    sent = send(body, client=Http2, row=up is h2_upstream)
    if up is h2_upstream:
        assert sent.asked == {"include_usage": True}
        assert sent.row["injected"] == 1
    else:  # without a length HTTP/1.1 has no way to send it: left alone
        assert sent.body == body


# -- hosts that refuse the field


@pytest.fixture(scope="module")
def anywhere(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Sent]]:
    """Send to any host name: the connection ends at the fake upstream."""
    with running_mitmdump(
        tmp_path_factory.mktemp("anywhere"),
        "regular",
        scripts=[USAGE, REDIRECT],
        environment={"REDIRECT_TO": f"127.0.0.1:{upstream.port}"},
    ) as proxy:
        sender = Sender(proxy, upstream)

        def go(url: str, body: Any = STREAM, **named: Any) -> Sent:
            host = url.removeprefix("http://").partition("/")[0]
            return sender(body, url, host=host, **named)

        go.proxy = proxy  # type: ignore[attr-defined]
        yield go


@pytest.mark.parametrize(
    ("url", "body", "reason"),
    [
        ("http://api.mistral.ai/v1/chat/completions", STREAM, "host_refuses"),
        (
            "http://x.cloud.databricks.com/serving-endpoints/databricks-claude-3/chat/completions",
            STREAM,
            "host_refuses",
        ),
        (
            "http://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-06-01",
            STREAM,
            "api_version",
        ),
        (
            "http://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2025-01-01-preview",
            STREAM | {"data_sources": [{}]},
            "data_sources",
        ),
    ],
)
def test_known_refusers_are_left_alone(anywhere: Callable[..., Sent], url: str, body: Any, reason: str) -> None:
    sent = anywhere(url, body)
    assert sent.asked is None
    assert (sent.row["injected"], sent.row["inject_skipped"]) == (0, reason)


@pytest.mark.parametrize("words", ["openai", "azure", "azure_old", "mistral", "databricks"])
def test_a_refusal_is_answered_by_the_original_and_remembered(anywhere: Callable[..., Sent], words: str) -> None:
    url = f"http://refuses-like-{words.replace('_', '-')}.test/v1/chat/completions"
    body = json.dumps(STREAM, indent=1).encode()
    first = anywhere(url, body, x_upstream=f"chunks=2;refuse={words}")
    assert first.received.status == 200
    assert b"[DONE]" in first.received.body
    refused, again = first.arrived
    assert refused.json["stream_options"] == {"include_usage": True}
    assert again.body == body
    assert {pair for pair in again.headers if pair[0] == "x-usage-tag"} == set()
    assert (first.row["status"], first.row["retried"], first.row["injected"]) == ("ok", 1, 0)

    second = anywhere(url, body, x_upstream=f"chunks=2;refuse={words}")
    assert second.body == body
    assert (second.row["inject_skipped"], second.row["retried"]) == ("refused_before", 0)


def test_refusals_are_listed_and_cleared(anywhere: Callable[..., Sent], start: Callable[..., Mitmdump]) -> None:
    anywhere("http://to-be-cleared.test/v1/chat/completions", x_upstream="chunks=2;refuse=openai")
    db = str(anywhere.proxy.db)  # type: ignore[attr-defined]
    run = CliRunner().invoke
    listed = run(main, ["refusals", "list", "--db", db])
    assert listed.exit_code == 0, listed.output
    assert "to-be-cleared.test:80" in listed.output
    cleared = run(main, ["refusals", "clear", "--db", db])
    assert cleared.exit_code == 0, cleared.output
    assert "to-be-cleared.test" not in run(main, ["refusals", "list", "--db", db]).output


@pytest.mark.parametrize("status", [400, 422])
def test_another_refusal_is_the_clients_own(send: Sender, status: int) -> None:
    sent = send(STREAM, x_upstream=f"status={status}")
    assert sent.received.status == status
    assert len(sent.arrived) == 1
    assert (sent.row["end_reason"], sent.row["retried"]) == ("http_error", 0)


def test_a_client_that_asked_itself_gets_the_refusal(send: Sender) -> None:
    sent = send(STREAM | {"stream_options": {"include_usage": True}}, x_upstream="refuse=openai")
    assert sent.received.status == 400
    assert len(sent.arrived) == 1


# -- stripping


def without_usage_frame(body: bytes, end: bytes = b"\n\n") -> bytes:
    """What the client should get of `body`."""
    frames = body.split(end)
    return end.join(frame for frame in frames if not (b'"usage":{' in frame and b'"choices":[]' in frame))


SHAPES = [
    "chunks=4",
    "chunks=4;crlf",
    "chunks=4;slice=1",
    "chunks=4;join=3",
    "chunks=4;join=99",
    "chunks=4;crlf;slice=1",
]
SHAPES += ["chunks=2;tools=2", *(f"chunks=4;slice=-1;seed={seed}" for seed in range(12))]
SHAPES += [f"chunks=4;crlf;slice=-1;seed={seed}" for seed in range(6)]


@pytest.mark.parametrize("words", SHAPES)
def test_injected_withholds_the_frame_and_nothing_else(other: Callable[..., Sender], words: str) -> None:
    sent = other(usage_strip_frame="injected")(STREAM, x_upstream=words)
    end = b"\r\n\r\n" if "crlf" in words else b"\n\n"
    complete = bytes(sent.arrived[0].sent)
    assert b'"usage":{' in complete
    assert sent.received.body == without_usage_frame(complete, end)
    assert sent.received.body.endswith(b"data: [DONE]" + end)
    assert (sent.row["stripped"], sent.row["end_reason"]) == (1, "complete")
    assert sent.row["output_tokens"] is not None


def test_injected_leaves_what_the_client_asked_for(other: Callable[..., Sender]) -> None:
    sent = other(usage_strip_frame="injected")(STREAM | {"stream_options": {"include_usage": True}})
    assert sent.received.body == bytes(sent.arrived[0].sent)
    assert sent.row["stripped"] == 0


def test_always_withholds_it_from_everyone(other: Callable[..., Sender]) -> None:
    sent = other(usage_strip_frame="always")(STREAM | {"stream_options": {"include_usage": True}})
    assert sent.received.body == without_usage_frame(bytes(sent.arrived[0].sent))
    assert sent.row["stripped"] == 1


@pytest.mark.parametrize("words", SHAPES)
def test_never_gives_every_byte(send: Sender, words: str) -> None:
    sent = send(STREAM, x_upstream=words)
    assert sent.received.body == bytes(sent.arrived[0].sent)
    assert sent.row["stripped"] == 0


def test_stripping_asks_for_plain_text(other: Callable[..., Sender]) -> None:
    sent = other(usage_strip_frame="injected")(STREAM, x_upstream="chunks=2;encoding=gzip", accept_encoding="gzip, br")
    assert sent.arrived[0].header("accept-encoding") == "identity"
    assert sent.row["stripped"] == 1


def test_an_upstream_that_compresses_all_the_same_is_not_stripped(other: Callable[..., Sender]) -> None:
    send = other(usage_strip_frame="injected")
    sent = send(STREAM, x_upstream="chunks=2;encoding=gzip;stubborn", accept_encoding="gzip")
    assert sent.received.body == bytes(sent.arrived[0].sent)
    assert (sent.row["stripped"], sent.row["output_tokens"]) == (0, 2)
    assert "compresses although asked not to" in send.proxy.log


@pytest.mark.parametrize("words", ["chunks=3;no_usage", "chunks=3;error=1", "chunks=3;no_done"])
def test_streams_without_the_frame_pass_whole(other: Callable[..., Sender], words: str) -> None:
    sent = other(usage_strip_frame="injected")(STREAM, x_upstream=words)
    assert sent.received.body == without_usage_frame(bytes(sent.arrived[0].sent))


def test_json_answers_are_never_stripped(other: Callable[..., Sender]) -> None:
    sent = other(usage_strip_frame="always")(STREAM | {"stream": False})
    assert sent.received.body == bytes(sent.arrived[0].sent)


CAPTURES = Path(__file__).parents[2] / "captures"


def test_azures_first_frame_is_not_the_usage_frame(start: Callable[..., Mitmdump]) -> None:
    with running_upstream(replay=[CAPTURES]) as azure:
        proxy = start(f"reverse:{azure.url}", usage_strip_frame="always")
        sent = Sender(proxy, azure)(STREAM, x_capture="openai_chat/azure", x_upstream="slice=-1;seed=3")
        proxy.close()
    complete = (CAPTURES / "openai_chat" / "azure" / "response.body").read_bytes()
    assert b"prompt_filter_results" in complete.partition(b"\n\n")[0]
    assert sent.received.body == without_usage_frame(complete)
    assert sent.received.body.partition(b"\n\n")[0] == complete.partition(b"\n\n")[0]
