"""A client that leaves stops the upstream call and the engine's work, in every phase of an answer."""

import http.client
import json
import socket
import time
from typing import Any

import pytest

from tests.support.app import RunningApp, ScriptedBlackBox, eventually, running_app

BODY = {"model": "tiny", "prompt": "hello", "max_tokens": 400, "temperature": 0}


def sent(app: RunningApp, **fields: Any) -> socket.socket:
    """A request on its way, on a socket of its own."""
    host, port = app.url.removeprefix("http://").split(":")
    body = json.dumps({**BODY, **fields}).encode()
    connection = socket.create_connection((host, int(port)))
    head = [
        "POST /v1/completions HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_before_the_first_token_stops_the_work(tokenizer: Any, stream: bool) -> None:
    with running_app(tokenizer, ScriptedBlackBox(first_delay_s=30)) as app:
        connection = sent(app, stream=stream, n=2)
        eventually(lambda: app.box.open == 2)
        left = time.monotonic()
        connection.close()
        eventually(app.idle, within_s=1.0)
        assert time.monotonic() - left < 1.0


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_in_the_middle_stops_the_work(tokenizer: Any, stream: bool) -> None:
    with running_app(tokenizer, ScriptedBlackBox(delay_s=0.02)) as app:
        connection = sent(app, stream=stream, n=2)
        if stream:
            assert b"200 OK" in connection.recv(100)
        eventually(lambda: app.box.proposed > 5)
        connection.close()
        eventually(app.idle, within_s=1.0)
        proposed = app.box.proposed
        time.sleep(0.1)
        assert app.box.proposed == proposed


def test_leaving_the_queue_frees_the_place(tokenizer: Any) -> None:
    with running_app(tokenizer, ScriptedBlackBox(first_delay_s=30), max_streams=1, max_queue=1) as app:
        first, second = sent(app), sent(app)
        eventually(lambda: app.version.pins == 2)
        second.close()
        eventually(lambda: app.version.pins == 1, within_s=1.0)
        assert app.box.calls == 1
        first.close()
        eventually(app.idle, within_s=1.0)


def test_the_server_answers_others_after_clients_left(tokenizer: Any) -> None:
    with running_app(tokenizer, ScriptedBlackBox(delay_s=0.01), max_streams=2) as app:
        for _ in range(3):
            sent(app, stream=True, n=2).close()
        eventually(app.idle)
        app.box.delay_s = 0.0
        host, port = app.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        connection.request(
            "POST", "/v1/completions", json.dumps({**BODY, "max_tokens": 2}), {"Content-Type": "application/json"}
        )
        assert connection.getresponse().status == 200
        connection.close()
