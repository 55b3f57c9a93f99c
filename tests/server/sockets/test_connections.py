"""What a connection may cost, over either of uvicorn's HTTP protocols and either event loop."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deltaserve.server.observability.metrics import Metrics
from deltaserve.server.settings import Settings
from deltaserve.server.sockets.connections import Bounds, bounded
from deltaserve.server.sockets.listening import Listener
from tests.support.app import eventually, in_thread
from tests.support.clients import SMALL_BUFFER, until_closed
from tests.support.process import free_port

LONG_S = 600.0  # never, in these tests
SOON_S = 0.2
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PARTS = 64
PART = b"x" * 65_536


class Writer:
    """An app that answers with PARTS parts, in one piece or one after the other, or waits to be told."""

    def __init__(self) -> None:
        self.ended: list[str] = []  # paths, once their request is over
        self.open: set[str] = set()
        self.hold = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        self.open.add(path)
        try:
            await self._answer(path, receive, send)
        finally:
            self.ended.append(path)

    async def _answer(self, path: str, receive: Any, send: Any) -> None:
        while path == "/wait" and not self.hold.is_set():  # noqa: ASYNC110  (told from another thread)
            await asyncio.sleep(0.01)
        parts = {"/whole": [PART * PARTS], "/parts": [PART] * PARTS}.get(path, [b"done"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Served:
    """A listener with that app, and what it counted."""

    def __init__(self, app: Writer, listener: Listener, metrics: Metrics, port: int) -> None:
        self.app, self.listener, self.port = app, listener, port
        self._metrics = metrics

    @property
    def connections(self) -> int:
        return len(self.listener.server_state.connections)

    def cut(self, bound: str) -> float:
        return self._metrics.connections_cut.labels(bound)._value.get()

    @contextmanager
    def client(self, sent: bytes = b"", buffer: int | None = None) -> Iterator[socket.socket]:
        with socket.socket() as client:
            if buffer is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            client.settimeout(10)
            client.connect(("127.0.0.1", self.port))
            client.sendall(sent)
            yield client


Serve = Callable[..., Served]


@pytest.fixture(params=[(p, loop) for p in (HttpToolsProtocol, H11Protocol) for loop in ("asyncio", "uvloop")], ids=str)
def listening(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a listener with some bounds; the others are out of reach."""
    protocol, loop = request.param
    monkeypatch.setattr("deltaserve.server.sockets.listening.AutoHTTPProtocol", protocol)
    with ExitStack() as stack:

        def serve(**bounds: Any) -> Served:
            far = {"header_timeout_s": LONG_S, "write_timeout_s": LONG_S, "drain_timeout_s": 0.1}
            app, metrics, port = Writer(), Metrics(), free_port()
            options = {"log_config": None, "loop": loop, "lifespan": "off"}
            listener = Listener(app, Settings(**(far | bounds)), metrics, "127.0.0.1", port, **options)
            stack.enter_context(in_thread(listener))
            return Served(app, listener, metrics, port)

        yield serve


def answer(data: bytes) -> tuple[int, dict[str, Any]]:
    """Status and error of an answer in the house's shape."""
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head and b"connection: close" in head and b"x-request-id: " in head
    return int(head.split()[1]), json.loads(body)["error"]


def test_a_header_that_is_not_finished_ends_with_a_408(listening: Serve) -> None:
    served = listening(header_timeout_s=SOON_S)
    with served.client(b"GET / HTTP/1.1\r\nHost:") as client:
        status, error = answer(until_closed(client))
    assert (status, error["code"]) == (408, "request_timeout")
    assert served.cut("header") == 1


def test_each_byte_more_of_a_header_gives_it_no_more_time(listening: Serve) -> None:
    served = listening(header_timeout_s=SOON_S)
    with served.client(b"GET / HTTP/1.1\r\nX: ") as client:
        client.settimeout(0.01)
        said = b""
        for _ in range(1000):
            client.sendall(b"x")
            with suppress(TimeoutError):
                said = client.recv(1000)
                break
    assert answer(said)[0] == 408


def test_a_connection_on_which_nothing_comes_is_closed_without_a_word(listening: Serve) -> None:
    served = listening(header_timeout_s=SOON_S)
    with served.client() as client:
        assert until_closed(client) == b""


def test_a_second_request_that_is_not_finished_is_closed_too(listening: Serve) -> None:
    served = listening(header_timeout_s=SOON_S, keep_alive_timeout_s=600)
    with served.client(GET) as client:
        said = b""
        while not said.endswith(b"0\r\n\r\n"):
            said += client.recv(1000)
        client.sendall(b"GET / HTTP/1.1\r\nHost:")
        until_closed(client)
    assert served.cut("header") == 1


def test_a_running_request_is_not_a_header_that_is_waited_for(listening: Serve) -> None:
    served = listening(header_timeout_s=SOON_S)
    with served.client(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n") as running, served.client() as silent:
        until_closed(silent)  # the time is over for both
        served.app.hold.set()
        assert running.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("path", ["/parts", "/whole"])
def test_a_client_that_takes_nothing_loses_its_connection(listening: Serve, path: str) -> None:
    served = listening(write_timeout_s=SOON_S)
    with served.client(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode(), SMALL_BUFFER):
        eventually(lambda: path in served.app.ended and served.connections == 0, within_s=10)
    assert served.cut("write") == 1


def test_a_client_that_reads_in_the_end_gets_everything(listening: Serve) -> None:
    served = listening()
    with served.client(b"GET /parts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", SMALL_BUFFER) as client:
        eventually(lambda: any(one.unsent for one in list(served.listener.server_state.connections)), within_s=10)
        assert until_closed(client).count(b"x" * 1000) >= PARTS * 60
    assert served.cut("write") == 0


def test_a_full_server_closes_the_oldest_connection_that_asks_nothing(listening: Serve) -> None:
    served = listening(max_connections=2)
    with served.client(b"GET / HT") as oldest, served.client(b"GET / HT") as older:
        eventually(lambda: served.connections == 2)  # accepted in the order in which they came
        with served.client(GET) as newcomer:
            assert until_closed(oldest) == b""
            assert newcomer.recv(12) == b"HTTP/1.1 200"
            older.sendall(b"TP/1.1\r\n\r\n")
            assert older.recv(12).startswith(b"HTTP/1.1")
    assert served.cut("full") == 1


def test_one_that_is_full_of_running_requests_says_so(listening: Serve) -> None:
    served = listening(max_connections=1, retry_after_s=7)
    with served.client(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n") as running:
        eventually(lambda: "/wait" in served.app.open)
        with served.client() as newcomer:
            said = until_closed(newcomer)
        assert answer(said)[0] == 503 and b"retry-after: 7" in said
        served.app.hold.set()
        assert running.recv(12) == b"HTTP/1.1 200"


def test_what_is_no_http_gets_the_house_s_error(listening: Serve) -> None:
    with listening().client(b"\x16\x03\x01 hello\r\n\r\n") as client:
        status, error = answer(until_closed(client))
    assert (status, error["type"]) == (400, "invalid_request_error")


def test_a_body_that_is_no_http_ends_the_connection_with_one_answer(listening: Serve) -> None:
    with listening().client(b"POST /wait HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n") as client:
        assert answer(until_closed(client))[0] == 400


def test_a_header_without_an_end_is_refused(listening: Serve) -> None:
    with listening().client(b"GET / HTTP/1.1\r\n") as client:
        line = b"X-Filler: " + b"x" * 1000 + b"\r\n"
        try:
            for _ in range(5000):
                client.sendall(line)
        except OSError:
            return
    raise AssertionError("the server takes a header of 5 MB")


def test_requests_far_ahead_of_their_answers_end_the_connection(listening: Serve) -> None:
    served = listening()
    with served.client(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" + GET * 2000):
        eventually(lambda: served.cut("ahead") == 1 or paused(served), within_s=10)


def paused(served: Served) -> bool:
    """h11 reads no further while a request runs."""
    return any(
        one.flow.read_paused and not hasattr(one, "pipeline") for one in list(served.listener.server_state.connections)
    )


class Wire:
    """A transport with a buffer that the test fills and empties."""

    unsent = 0
    aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, _: str) -> Any:
        class Socket:
            def setsockopt(self, *_: int) -> None: ...

        return Socket()


class Protocol:
    """As much of uvicorn's as is asked."""

    timeout_keep_alive_task = None

    def __init__(self) -> None:
        self.transport, self.connections = Wire(), set[Any]()
        self.flow, self.cycle = self, self
        self.write_paused, self.response_complete = True, False

    def connection_made(self, _: Any) -> None: ...
    def resume_writing(self) -> None: ...


class Stalling:
    """A connection in the middle of an answer; a client that takes nothing for 10 s is given up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("deltaserve.server.sockets.connections.monotonic", lambda: self.now)
        self.connection = bounded(Protocol, Bounds(9, LONG_S, 10.0, 1.0, lambda _: None))()
        self.connection.connection_made(self.connection.transport)

    def cut(self, now: float, unsent: int) -> bool:
        """Whether it is, looked at with so many bytes not taken."""
        self.now, self.connection.transport.unsent = now, unsent
        self.connection.look()
        return bool(self.connection.transport.aborted)


@pytest.fixture
def stalling(monkeypatch: pytest.MonkeyPatch) -> Stalling:
    return Stalling(monkeypatch)


def test_a_slow_client_is_not_a_stalled_one(stalling: Stalling) -> None:
    for second in range(0, 900, 9):
        assert not stalling.cut(second, 1_000 - second)
    assert not stalling.cut(900, 109)
    assert stalling.cut(902, 109)


def test_bytes_that_come_as_fast_as_others_go_are_progress(stalling: Stalling) -> None:
    for second in range(0, 90, 9):
        stalling.now = second + 1.0
        stalling.connection.resume_writing()  # all was taken since the last look, and as much was written again
        assert not stalling.cut(second + 2, 500)
    assert stalling.cut(99, 500)


def test_what_waits_for_more_to_write_is_not_stalled(stalling: Stalling) -> None:
    stalling.connection.write_paused = False  # the buffer holds something, and the app may still write
    for second in range(0, 90, 9):
        assert not stalling.cut(second, 500)
    stalling.connection.response_complete = True  # now nothing more comes, and nobody takes it
    assert not stalling.cut(90, 500)
    assert stalling.cut(101, 500)
