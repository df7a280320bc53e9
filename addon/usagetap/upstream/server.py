"""The fake upstream as a server: in a test's own event loop, in a thread beside it, or as `usagetap upstream`."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from usagetap.upstream.behaviour import parse_behaviour
from usagetap.upstream.conduct import Wire, conduct
from usagetap.upstream.exchange import Exchange
from usagetap.upstream.h1_server import Line, head_bytes, serve_h1
from usagetap.upstream.h2_server import PREFACE, Http2Connection
from usagetap.upstream.replay import load
from usagetap.upstream.routes import Provider
from usagetap.upstream.tls import self_signed, server_context
from usagetap.upstream.ws_server import Socket


class Upstream:
    """A provider on 127.0.0.1. `requests` is the log of what arrived, in order of arrival.

    `default` is a behaviour in the words of `behaviour.py`; each request may lay its own over it. With `tls` the
    certificate is self-signed (`certificate` is its PEM) and HTTP/2 is offered unless `http2` is False. `replay` are
    the files and folders of recordings that `x-capture: ID` answers from.
    """

    def __init__(
        self,
        *,
        default: str = "",
        replay: Sequence[str | Path] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        tls: bool = False,
        http2: bool = True,
    ) -> None:
        self._provider = Provider(parse_behaviour(default), load(replay))
        self.requests: list[Exchange] = []
        self.host = host
        self.port = port
        self.tls = tls
        self._alpn = ["h2", "http/1.1"] if http2 else ["http/1.1"]
        self._pem = self_signed(host) if tls else b""
        self._arrived = threading.Condition()
        self._numbers = itertools.count()
        self._lines: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """Scheme, host and port, without a path."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def certificate(self) -> bytes:
        """The PEM that a client must trust; the private key is not in it."""
        return self._pem[self._pem.find(b"-----BEGIN CERTIFICATE") :]

    async def start(self) -> None:
        """Listen; `port` 0 becomes a free one."""
        self._loop = asyncio.get_running_loop()
        context = server_context(self._pem, self._alpn) if self.tls else None
        self._server = await asyncio.start_server(self._connected, self.host, self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and break every connection."""
        if self._server:
            self._server.close()
        lines = dict(self._lines)
        for task in lines:
            task.cancel()
        await asyncio.gather(*lines, return_exceptions=True)
        for writer in lines.values():
            writer.transport.abort()  # a polite TLS farewell would outlast the loop
        await asyncio.sleep(0.01)

    async def __aenter__(self) -> Upstream:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def release(self) -> None:
        """Let the answers to all requests so far go on where they `hold`, now or later; from any thread."""
        for exchange in list(self.requests):
            if self._loop:
                self._loop.call_soon_threadsafe(exchange.released.set)

    def wait_for(self, count: int, timeout: float = 10) -> list[Exchange]:
        """Wait in another thread until so many requests have arrived; TimeoutError if they do not."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, timeout):
                raise TimeoutError(f"{len(self.requests)} of {count} requests arrived within {timeout} s")
            return list(self.requests)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines[task] = writer
        line = Line(reader, writer, next(self._numbers))
        try:
            with suppress(OSError, ValueError, asyncio.CancelledError):
                if await speaks_h2(line):
                    await Http2Connection(line, self._serve).run()
                else:
                    await serve_h1(line, self._serve, self._upgrade)
        finally:
            del self._lines[task]
            writer.close()

    def _log(self, exchange: Exchange) -> None:
        with self._arrived:
            self.requests.append(exchange)
            self._arrived.notify_all()

    async def _serve(self, exchange: Exchange, wire: Wire) -> None:
        self._log(exchange)
        await conduct(self._provider.answer(exchange), exchange, wire)

    async def _upgrade(self, exchange: Exchange, line: Line) -> None:
        self._log(exchange)
        try:
            session = self._provider.session(exchange)
        except ValueError as error:
            exchange.status = 404
            text = str(error).encode()
            await line.write(head_bytes(404, [("content-length", str(len(text)))]) + text)
            exchange.end("complete")
        else:
            await Socket(exchange, line, session).run()


async def speaks_h2(line: Line) -> bool:
    """Whether the client agreed on HTTP/2 in TLS, or begins with its preface without asking."""
    if tls := line.writer.get_extra_info("ssl_object"):
        return bool(tls.selected_alpn_protocol() == "h2")
    while PREFACE.startswith(line.buffer[: len(PREFACE)]):
        if len(line.buffer) >= len(PREFACE):
            return True
        if not await line.fill():
            break
    return False


@contextmanager
def running_upstream(**options: object) -> Iterator[Upstream]:
    """An `Upstream` in a thread of its own, for tests that block: `with running_upstream(tls=True) as upstream:`."""
    upstream = Upstream(**options)  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fake upstream", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(upstream.start(), loop).result(10)
        yield upstream
    finally:
        asyncio.run_coroutine_threadsafe(upstream.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def serve(
    host: str = "127.0.0.1",
    port: int = 9000,
    *,
    tls: bool = False,
    http2: bool = True,
    behaviour: str = "",
    delay: float = 0,
    refuse_stream_options: str | None = None,
    encoding: str | None = None,
    die_after: int | None = None,
    replay: Sequence[str | Path] = (),
    started: Callable[[Upstream], None] = lambda _: None,
) -> None:
    """`usagetap upstream`: serve until interrupted (KeyboardInterrupt). `behaviour` is in the words of behaviour.py;
    the plain options are laid over it. `started` is called once the port is open. Bad words raise ValueError, a port
    that is taken OSError, a file to replay that cannot be read OSError or ValueError."""
    plain = {"delay": delay or None, "refuse": refuse_stream_options, "encoding": encoding, "die": die_after}
    words = ";".join([behaviour, *(f"{name}={value}" for name, value in plain.items() if value is not None)])
    upstream = Upstream(default=words, replay=replay, host=host, port=port, tls=tls, http2=http2)

    async def run() -> None:
        async with upstream:
            started(upstream)
            await asyncio.Event().wait()

    asyncio.run(run())
