"""Programs that tests fork end with a status of their own, when they are told to, and with those who wanted them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.app import eventually
from tests.support.nursery import Nursery

HERE = str(Path(__file__).parents[1])
PROGRAM = """
import os, sys, time
print(os.getpid(), os.getcwd(), os.environ["SAID"], *sys.argv[1:], flush=True)
if sys.argv[1] == "wait":
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""
ASKS = """
import os, sys
from tests.support.nursery import Nursery
program = Nursery(["json"]).read("program", "wait", env={**os.environ, "SAID": "this"})
print(program.stdout.readline().split()[0].decode(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def nursery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nursery:
    """One that finds `program`."""
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, str(tmp_path)]))
    return Nursery(["json"])


def test_a_program_has_its_own_environment_folder_and_arguments_and_gives_its_status(
    nursery: Nursery, tmp_path: Path
) -> None:
    ended = nursery.run("program", "3", "more", env={"SAID": "this"}, folder=tmp_path, within_s=60)
    assert ended.stdout.split()[1:] == [str(tmp_path), "this", "3", "more"]
    assert (ended.returncode, ended.stderr) == (3, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_program_that_runs_is_waited_for_and_told(nursery: Nursery, number: signal.Signals) -> None:
    program = nursery.read("program", "wait", env={"SAID": "this"})
    with program.stdout:
        assert program.stdout.readline().split()[0] == str(program.pid).encode()
        assert program.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.01)
        program.send_signal(number)
        assert program.wait(60) == -number
        program.send_signal(number)  # to nobody


def test_those_who_give_the_same_name_have_one_nursery_until_the_last_of_them_has_left(
    nursery: Nursery, tmp_path: Path
) -> None:
    name = f"a test of {tmp_path}"[-90:]
    first, second = (Nursery(["json"], name=name) for _ in range(2))
    parents = []
    for each in (first, second):
        program = each.read("program", "wait", env={"SAID": "this"})
        with program.stdout:
            program.stdout.readline()
            parents.append(parent_of(parent_of(program.pid)))  # between them is a keeper
        program.kill()
        program.wait(60)
    assert parents[0] == parents[1]
    second.close()
    for status in (3, 4):  # what came before it was seen that one has left would be done in any case
        assert first.run("program", str(status), env={"SAID": "this"}, within_s=60).returncode == status
    first.close()
    assert not runs(parents[0])


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_program_ends_with_those_who_wanted_it(nursery: Nursery) -> None:
    """Even where they are killed."""
    with subprocess.Popen([sys.executable, "-c", ASKS], stdin=-1, stdout=-1, text=True) as asker:
        assert asker.stdin is not None and asker.stdout is not None
        pid = int(asker.stdout.readline())
        asker.kill()
    eventually(lambda: not runs(pid), within_s=60)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
