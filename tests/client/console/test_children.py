import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deltaserve.client.console.children import ended, never_silent, refuse_busy, running, unless_ended, until_ready
from deltaserve.client.console.interrupts import until_stopped
from deltaserve.client.console.terminal import Status, Stop
from deltaserve.errors import AddressUnusable
from deltaserve.offset_models.demo.process import free_port

pytestmark = pytest.mark.anyio
SLEEP = "import time; time.sleep(60)"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_child_is_stopped_at_the_end():
    async with running("sleeper", "-c", SLEEP) as child:
        assert alive(child.pid)
    assert not alive(child.pid)


async def test_a_child_is_stopped_when_the_work_fails():
    with pytest.raises(ZeroDivisionError):
        async with running("sleeper", "-c", SLEEP) as child:
            1 / 0  # noqa: B018
    assert not alive(child.pid)


async def test_a_child_that_does_not_heed_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("deltaserve.client.console.children.STOPPED_WITHIN_S", 0.2)
    stubborn = f"import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(file=sys.stderr); {SLEEP}"
    async with running("mule", "-c", stubborn) as child:
        while not child.lines:  # noqa: ASYNC110  (there is no event to wait for)
            await asyncio.sleep(0.01)
    assert not alive(child.pid)


async def test_a_child_that_dies_ends_the_work_with_its_last_words():
    dies = "import sys; print('x' * 100_000, file=sys.stderr); sys.exit('out of luck')"
    async with running("player", "-c", dies) as child:
        with pytest.raises(Stop, match=r"The player ended \(exit status 1\)(?s:.*)out of luck") as stop:
            await unless_ended(asyncio.sleep(30), child)
    assert len(stop.value.message) < 5000


async def test_waiting_ends_when_the_child_dies_before_it_is_ready():
    async with running("player", "-c", "import sys; sys.exit('no model')") as child:
        with pytest.raises(Stop, match="no model"):
            await until_ready(child, "http://127.0.0.1:9", 30)


async def test_waiting_ends_after_its_time_limit():
    async with running("sleeper", "-c", SLEEP) as child:
        with pytest.raises(Stop, match="not ready within 0 s"):
            await until_ready(child, "http://127.0.0.1:9", 0.3)


async def test_work_that_is_done_is_not_disturbed():
    async with running("sleeper", "-c", SLEEP) as child:
        assert await unless_ended(asyncio.sleep(0, "result"), child) == "result"


async def test_children_see_the_settings_given_to_them_and_none_of_the_shells(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DELTASERVE_UPSTREAM_URL", "http://elsewhere")
    prints = "import os, sys; sys.exit(str(sorted(name for name in os.environ if name.startswith('DELTASERVE'))))"
    async with running("printer", "-c", prints, environment={"DELTASERVE_ADMIN_KEY": "k"}) as child:
        stop = await ended(child)
    assert "['DELTASERVE_ADMIN_KEY']" in stop.message


def test_a_busy_port_is_a_sentence_that_says_what_to_do():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnusable, match=rf"Port {port} for the server is in use: .* with --port"):
            refuse_busy("127.0.0.1", port, "server", "--port")
    refuse_busy("127.0.0.1", free_port(), "server", "--port")


def test_work_that_ends_gives_its_result():
    async def work() -> int:
        return 3

    assert until_stopped(work) == 3


TOLD = f"""
import asyncio, sys
from deltaserve.client.console.children import running
from deltaserve.client.console.interrupts import until_stopped
from deltaserve.client.console.terminal import Stop

async def work():
    async with running("sleeper", "-c", {SLEEP!r}) as child:
        print(child.pid, flush=True)
        await asyncio.sleep(60)

try:
    until_stopped(work)
except Stop as stop:
    print(stop.message, flush=True)
    sys.exit(stop.status)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_children_first(number: signal.Signals):
    process = subprocess.Popen([sys.executable, "-c", TOLD], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    try:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert alive(pid)
        process.send_signal(number)
        process.send_signal(number)  # an impatient second one changes nothing
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (output, process.returncode) == ("Stopped.\n", Status.INTERRUPTED)
    end = time.monotonic() + 2
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent is gone")
def test_a_child_does_not_outlive_a_killed_parent():
    process = subprocess.Popen([sys.executable, "-c", TOLD], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.communicate(timeout=20)
    end = time.monotonic() + 10
    while running_still(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not running_still(pid)


def running_still(pid: int) -> bool:
    """A dead process that nobody has waited for does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_what_takes_long_is_never_silent_and_says_nothing_afterwards(capsys: pytest.CaptureFixture[str]):
    said = asyncio.Event()

    def line(seconds: float) -> str:
        said.set()
        return f"{seconds:.0f} s"

    async with never_silent(line, every_s=0.01):
        await said.wait()
    told = capsys.readouterr().err
    await asyncio.sleep(0.05)
    assert told.startswith("0 s\n")
    assert capsys.readouterr().err == ""
