"""How a server ends, as a process: what runs, what waits and what comes meanwhile all get an answer."""

import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2 as httpx
import pytest

from deltaserve.server.app import INTERRUPTED
from tests.support.app import ScriptedBlackBox, eventually
from tests.support.clients import deaf_client
from tests.support.scripted_server import ScriptedServer, scripted_server

TERM, INT = signal.SIGTERM, signal.SIGINT
LONG = {"model": "tiny", "prompt": "hello", "temperature": 0, "max_tokens": 50_000}
ENDED_WITHIN_S = 20.0
SHUTTING_DOWN = {
    "message": "The server is shutting down.",
    "type": "service_unavailable_error",
    "param": None,
    "code": "unavailable",
}


@contextmanager
def asked(server: ScriptedServer, *bodies: dict[str, Any]) -> Iterator[list["Future[httpx.Response]"]]:
    """The bodies on their way, each from a client of its own; all that can run does."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        url = f"{server.url}/v1/completions"
        answers = [pool.submit(httpx.post, url, json=body, timeout=60) for body in bodies]
        eventually(lambda: under_way(server) == len(bodies), within_s=20)
        yield answers


def under_way(server: ScriptedServer) -> float:
    """Choices that run or wait for a place."""
    return server.metric("num_requests_running") + server.metric("num_requests_waiting")


def tell(server: ScriptedServer, number: signal.Signals) -> None:
    """Sends the first signal."""
    server.process.popen.send_signal(number)


def until_draining(server: ScriptedServer) -> None:
    eventually(lambda: httpx.get(f"{server.url}/health/ready").status_code == 503, within_s=10)


def status(server: ScriptedServer) -> int:
    """The exit status; nothing but log lines was said before."""
    ended = server.process.popen.wait(ENDED_WITHIN_S)
    assert not [line for line in server.process.lines if "Traceback" in line or '"error"' in line.partition("level")[2]]
    return ended


def frames(answer: httpx.Response) -> list[str]:
    return [frame.removeprefix("data: ") for frame in answer.text.split("\n\n") if frame]


def assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.json() == {"error": SHUTTING_DOWN}
    assert answer.headers["content-type"] == "application/json"
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("1", "true")
    assert answer.headers["x-request-id"]


def assert_cut(stream: httpx.Response) -> None:
    *tokens, last = frames(stream)
    assert stream.status_code == 200 and tokens and "choices" in json.loads(tokens[-1])
    assert json.loads(last) == {"error": SHUTTING_DOWN}


@pytest.mark.parametrize("number", [TERM, INT])
def test_past_the_drain_timeout_what_runs_and_what_waits_ends_with_an_error_and_the_status_is_zero(
    number: signal.Signals,
) -> None:
    with scripted_server(ScriptedBlackBox(delay_s=0.02), drain_timeout_s=0.3, max_streams=2) as server:
        with asked(server, LONG, LONG, {**LONG, "stream": True}) as answers:
            tell(server, number)
            stream = answers.pop()  # runs in part, or waits
            assert stream.result().text.rstrip().endswith(json.dumps({"error": SHUTTING_DOWN}, separators=(",", ":")))
            for answer in answers:
                assert_refused(answer.result())
        assert status(server) == 0


def test_a_cut_stream_ends_with_one_error_event_and_no_done() -> None:
    with scripted_server(ScriptedBlackBox(delay_s=0.02), drain_timeout_s=0.3) as server:
        with asked(server, {**LONG, "stream": True}) as (stream,):
            eventually(lambda: server.metric("generation_tokens_total") > 3)
            tell(server, TERM)
            assert_cut(stream.result())
        assert status(server) == 0


def test_until_then_running_and_waiting_requests_finish_and_newcomers_are_told_to_come_back() -> None:
    with scripted_server(ScriptedBlackBox(delay_s=0.02), drain_timeout_s=30, max_streams=1) as server:
        body = {**LONG, "max_tokens": 60}
        with asked(server, body, body) as answers:
            tell(server, TERM)
            until_draining(server)
            for client in (server.client, httpx):  # a connection that was open, and a new one
                assert_refused(client.post(f"{server.url}/v1/completions", json=body))
            unready = httpx.get(f"{server.url}/health/ready")
            assert (unready.status_code, unready.json()["problems"]) == (503, ["draining"])
            assert unready.headers["connection"] == "close"
            assert httpx.get(f"{server.url}/health/live").status_code == 200
            for answer in answers:
                assert answer.result().status_code == 200
                assert answer.result().json()["usage"]["completion_tokens"] == 60
        assert status(server) == 0


@pytest.mark.parametrize("numbers", [(TERM, TERM), (INT, TERM)])
def test_a_second_signal_ends_at_once_whichever_it_is(numbers: tuple[signal.Signals, signal.Signals]) -> None:
    with scripted_server(ScriptedBlackBox(delay_s=0.02), drain_timeout_s=600) as server:
        with asked(server, LONG, {**LONG, "stream": True}) as (whole, stream):
            eventually(lambda: server.metric("generation_tokens_total") > 10)
            tell(server, numbers[0])
            until_draining(server)
            server.process.popen.send_signal(numbers[1])
            assert_refused(whole.result())
            assert_cut(stream.result())
        assert status(server) == INTERRUPTED


def test_connections_that_ask_nothing_do_not_hold_the_end() -> None:
    with scripted_server(drain_timeout_s=600, header_timeout_s=600, keep_alive_timeout_s=600) as server:
        server.client.get("/health/live")  # kept alive
        with socket.create_connection(("127.0.0.1", server.port)) as half:
            half.sendall(b"POST /v1/completions HTTP/1.1\r\nHost:")
            server.process.popen.send_signal(TERM)
            assert status(server) == 0
            assert half.recv(100) == b""


def test_a_client_that_does_not_read_holds_the_end_no_longer_than_the_drain() -> None:
    deaf = {**LONG, "stream": True, "logprobs": 5}
    with scripted_server(drain_timeout_s=0.3, write_timeout_s=600) as server, deaf_client(server.port, deaf):
        eventually(lambda: server.metric("generation_tokens_total") > 800, within_s=30)
        tell(server, TERM)
        assert status(server) == 0
