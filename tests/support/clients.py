"""Clients that do not behave, on sockets of their own."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SMALL_BUFFER = 4096  # bytes that a client's kernel takes for it, about


@contextmanager
def deaf_client(port: int, body: Mapping[str, Any]) -> Iterator[socket.socket]:
    """One that asks for a completion and reads nothing."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        client.connect(("127.0.0.1", port))
        client.sendall(completion(body))
        yield client


def completion(body: Mapping[str, Any]) -> bytes:
    """A whole request, as sent."""
    data = json.dumps(body).encode()
    return head(len(data)) + data


def head(content_length: int) -> bytes:
    """A request up to its body."""
    lines = ("POST /v1/completions HTTP/1.1", "Host: x", "Content-Type: application/json")
    return "\r\n".join([*lines, f"Content-Length: {content_length}", "", ""]).encode()


def until_closed(client: socket.socket, within_s: float = 10.0) -> bytes:
    """What still comes; fails when the connection stays open."""
    client.settimeout(within_s)
    parts = []
    try:
        while part := client.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)
