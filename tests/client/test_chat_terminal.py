"""chat at a terminal: a real process on a pseudo-terminal."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from deltaserve.client.calls import Generation
from deltaserve.client.client import Client
from tests.support.app import RunningApp


@dataclass
class Terminal:
    """What a user types into, and sees."""

    process: "subprocess.Popen[bytes]"
    handle: int
    seen: bytes = field(default=b"")

    def type(self, text: str) -> None:
        os.write(self.handle, text.encode())

    def shows(self, text: str, within_s: float = 15.0) -> None:
        """Waits until `text` was shown, and forgets what came up to it."""
        end = time.monotonic() + within_s
        while text.encode() not in self.seen:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.handle], [], [], left)[0], f"{text!r} is not in {self.seen!r}"
            self.seen += os.read(self.handle, 4096)
        self.seen = self.seen.partition(text.encode())[2]


@pytest.fixture
def terminal(app: RunningApp) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "deltaserve", "chat", "--url", app.url, "-t", "0", "--max-tokens", "300"]
    environment = {**os.environ, "TERM": "dumb"}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait(10)
        os.close(ours)


def test_a_chat_at_a_terminal_survives_errors_and_ctrl_c_and_ends_with_ctrl_d(terminal: Terminal, app: RunningApp):
    terminal.shows("/help lists the commands.")
    terminal.shows("> ")
    terminal.type("/model other\nHello\n")
    terminal.shows("does not exist; there is tiny")
    terminal.shows("> ")
    terminal.type("/model\n")
    terminal.shows("the server chooses")
    terminal.shows("> ")
    with Client(app.url) as client:
        first = client.chat([{"role": "user", "content": "Hello"}], Generation(max_tokens=4, temperature=0.0)).text
    app.box.delay_s = 0.05
    try:
        terminal.type("Hello\n")
        terminal.shows(f"Hello\r\n{first}")  # the question that failed is not part of the conversation
        terminal.process.send_signal(signal.SIGINT)
        terminal.shows("(stopped)")
        terminal.shows("> ")
    finally:
        app.box.delay_s = 0.0
    terminal.type("\x04")
    assert terminal.process.wait(10) == 0
