"""Clients that are too slow in asking or in taking their answers: what they hold is freed."""

import socket
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.app import RunningApp, eventually, listening_app
from tests.support.clients import completion, deaf_client, head, until_closed

STREAM = {"model": "tiny", "prompt": "hello", "temperature": 0, "max_tokens": 900_000, "logprobs": 5, "stream": True}
SHORT = {"model": "tiny", "prompt": "a", "temperature": 0, "max_tokens": 3}


def port(app: RunningApp) -> int:
    return int(app.url.rpartition(":")[2])


def test_streams_that_nobody_reads_give_up_their_places_and_their_calls(tokenizer: Any) -> None:
    with (
        listening_app(tokenizer, max_streams=2, write_timeout_s=0.5) as app,
        deaf_client(port(app), STREAM),
        deaf_client(port(app), STREAM),
    ):
        eventually(lambda: app.box.open == 2, within_s=10)
        third = httpx.post(f"{app.url}/v1/completions", json=SHORT, timeout=30)
        assert third.status_code == 200
        eventually(app.idle, within_s=10)


def test_a_stream_that_is_read_late_is_whole(tokenizer: Any) -> None:
    asked = {**STREAM, "max_tokens": 3_000, "stream_options": {"include_usage": True}}
    with listening_app(tokenizer, write_timeout_s=600) as app, deaf_client(port(app), asked) as client:
        eventually(lambda: any(one.unsent for one in list(app.server.server_state.connections)), within_s=20)
        said = b""
        while b"[DONE]" not in said[-100:]:
            said += client.recv(1 << 16)
        assert b'"completion_tokens":3000' in said[-1000:]


@pytest.mark.parametrize("sent", [b"", b'{"model": "ti'])
def test_a_body_that_is_not_finished_ends_with_a_408(tokenizer: Any, sent: bytes) -> None:
    with (
        listening_app(tokenizer, body_timeout_s=0.2) as app,
        socket.create_connection(("127.0.0.1", port(app))) as half,
    ):
        half.sendall(head(1000) + sent)
        answer, _, body = until_closed(half).partition(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 408") and b"x-should-retry: true" in answer
        assert b'"code":"request_timeout"' in body


def test_a_body_that_keeps_coming_has_more_time_the_larger_it_is(tokenizer: Any) -> None:
    body = completion({**SHORT, "user": "x" * 100_000})
    with (
        listening_app(tokenizer, body_timeout_s=0.2) as app,
        socket.create_connection(("127.0.0.1", port(app))) as slow,
    ):
        slow.sendall(body[:-1])  # 100 kB: 10 s
        with socket.create_connection(("127.0.0.1", port(app))) as other:
            other.sendall(head(1000))
            until_closed(other)  # the time of a small one is over
        slow.sendall(body[-1:])
        assert slow.recv(12) == b"HTTP/1.1 200"
