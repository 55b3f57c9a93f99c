"""The demo as people run it: real processes with small random models."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from deltaserve.client.console.terminal import Status
from deltaserve.client.demo.servers import BASE, BLACK_BOX, OFFSET
from deltaserve.offset_models.demo.process import free_port
from tests.support.command import Command
from tests.support.demo_weights import make_demo_weights

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_weights(tmp_path_factory.mktemp("demo") / "weights")


@contextmanager
def demo(weights: Path, *flags: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "deltaserve", "demo", "--weights", str(weights), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def read_object(process: "subprocess.Popen[str]") -> dict[str, object]:
    """The JSON object that it prints before it stays."""
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or lines[-1] != "}\n":
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        lines.append(line)
    answer: dict[str, object] = json.loads("".join(lines))
    return answer


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see the children")
def test_the_demo_shows_both_answers_and_ctrl_c_leaves_nothing_running(weights: Path):
    ports = free_port(), free_port()
    with demo(weights, "--port", str(ports[0]), "--black-box-port", str(ports[1]), "--json") as process:
        shown = read_object(process)
        assert len(shown["answers"]) == 6 and shown["server"] == f"http://{HOST}:{ports[0]}"  # type: ignore[arg-type]
        assert any(answer["black_box"] != answer["served"] for answer in shown["answers"])  # type: ignore[attr-defined]
        assert shown["playground"] == f"{shown['server']}/playground#admin_key={shown['admin_key']}"
        offered = httpx.get(f"{shown['server']}/playground/about.json").json()["examples"]
        assert offered == [answer["question"] for answer in shown["answers"]]  # type: ignore[attr-defined]
        pids = children_of(process.pid)
        assert len(pids) == 2
        assert httpx.get(f"{shown['server']}/health").status_code == 200
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said
    assert "Both answer after" in said and "Traceback" not in said
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_demo_and_the_other_process(weights: Path):
    ports = free_port(), free_port()
    with demo(weights, "--port", str(ports[0]), "--black-box-port", str(ports[1]), "--json") as process:
        read_object(process)
        first, second = children_of(process.pid)
        os.kill(first, signal.SIGKILL)
        _, said = process.communicate(timeout=30)
    assert process.returncode == Status.FAILED and "The black box ended (exit status -9)" in said
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


@pytest.mark.slow
def test_a_check_of_random_models_fails_with_figures(weights: Path, tmp_path: Path):
    command = [sys.executable, "-m", "deltaserve", "demo", "--check", "--questions", "4", "--weights", str(weights)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=tmp_path, env=environment)
    assert done.returncode == Status.FAILED and "Not every claim holds." in done.stderr
    figures = json.loads((tmp_path / "build" / "demo.json").read_text())["figures"]
    assert len(figures) == 8 and all(0 <= figure <= 1 for figure in figures.values())


def test_a_busy_port_is_said_before_anything_starts(weights: Path, command: Command):
    import socket

    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for flag in ("--port", "--black-box-port"):
            other = "--black-box-port" if flag == "--port" else "--port"
            result = command("demo", "--weights", str(weights), flag, port, other, str(free_port()))
            assert result.exit_code == Status.FAILED
            assert f"Port {port}" in result.stderr and f"with {flag}." in result.stderr


def test_weights_that_were_changed_are_not_served(tmp_path: Path, weights: Path, command: Command):
    missing = command("demo", "--weights", str(tmp_path / "nothing"))
    assert missing.exit_code == Status.FAILED and "deltaserve demo --build" in missing.stderr
    from shutil import copytree

    changed = copytree(weights, tmp_path / "changed")
    (changed / "base" / "config.json").write_text("{}")
    result = command("demo", "--weights", str(changed))
    assert result.exit_code == Status.FAILED and "base/config.json" in result.stderr


def test_options_of_a_build_without_build_are_a_usage_error(command: Command):
    assert command("demo", "--seed", "3").exit_code == Status.USAGE


def test_a_build_is_made_with_what_was_asked_for(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Path
):
    import deltaserve.offset_models.demo.pipeline.build as build_module
    from deltaserve.offset_models.demo.manifest import read_weights_manifest

    asked: list[tuple[object, ...]] = []

    def build(*arguments: object) -> object:
        asked.append(arguments)
        return read_weights_manifest(weights)

    monkeypatch.setattr(build_module, "build", build)
    assert command("demo", "--build", "--out", str(tmp_path), "--seed", "3").exit_code == 0
    assert command("demo", "--build", "--weights", str(tmp_path)).exit_code == 0
    assert asked == [(tmp_path, 3), (tmp_path,)]


def test_the_folders_are_those_that_a_build_makes():
    from deltaserve.offset_models.demo.pipeline import build

    assert (BLACK_BOX, BASE, OFFSET) == (build.BLACK_BOX, build.BASE, build.OFFSET)


def test_weights_without_the_bridged_pair_are_told_before_anything_starts(weights: Path, command: Command) -> None:
    refused = command("demo", "--weights", str(weights), "--check", "--offset", "bridged")
    assert refused.exit_code != 0
    assert "have no offset bridged" in refused.stderr
