"""README's lines, in order, in a copy of the repository with an environment of its own: `make e2e-readme`.

It takes minutes, the index that pip is set up for, and the ports that README names. What can be checked in a moment,
that every line has a way to be run and every link leads somewhere, is part of the default suite.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.readme import WAYS, Command, Way, commands, way_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PORTS = (8000, 8001, 8002, 8003)
WITHIN_S = 1500  # a bound for what hangs, not a figure
POLL_S = 0.2


def test_every_line_of_readme_has_a_way_to_be_run() -> None:
    used = {way_of(command) for command in commands(README)}
    assert used == set(WAYS), "a way is left that no line of README needs"


def test_a_line_that_nothing_is_known_of_is_noticed() -> None:
    with pytest.raises(LookupError, match="deltaserve polish"):
        way_of(commands("```sh\ndeltaserve polish\n```\n")[0])


def test_commands_go_on_behind_a_backslash_and_inside_quotes() -> None:
    text = "```sh\na \\\n  b   # why\nc 'd\n  e'\n```\n\n```\na drawing\n```\n"
    assert [command.text for command in commands(text)] == ["a \\\n  b   # why", "c 'd\n  e'"]


@pytest.mark.parametrize(
    "page", sorted(["README.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))])
)
def test_every_link_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"src(?:set)?=\"([^\"]+)\"", text)
    links = [link for link in links if "://" not in link]
    for path, _, anchor in (link.partition("#") for link in links):
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {path}"
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target.read_text("utf-8")), f"{page} links to {path}#{anchor}"


def _anchors(text: str) -> set[str]:
    """Of the headings, as they are made of them where pages are shown."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.readme
def test_readme_runs_as_it_is_printed(tmp_path: Path) -> None:
    taken = [port for port in PORTS if _answers(port)]
    assert not taken, f"README's lines need the ports {taken}, which somebody uses"
    with shell(copy_of_the_repository(tmp_path / "deltaserve")) as bash:
        for command in commands(README):
            way = way_of(command)
            if way.not_here:
                print(f"not run: {command.first_line}: {way.not_here}")
            else:
                run(bash, command, way)


def copy_of_the_repository(to: Path) -> Path:
    """What a clone of the working tree would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name, follow_symlinks=False)
    return to


@contextlib.contextmanager
def shell(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A bash that reads commands; what it started in the background is ended with it."""
    hidden = (
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "PYTEST_CURRENT_TEST",
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
        "PYTHONDONTWRITEBYTECODE",
    )
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"PIP_NO_CACHE_DIR": "1"}
    process = subprocess.Popen(
        ["bash"],
        cwd=folder,
        env={name: value for name, value in environment.items() if not name.startswith("DELTASERVE_")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    )
    say(process, "set -m")  # a group for each background job
    try:
        yield process
    finally:
        with contextlib.suppress(BrokenPipeError):
            say(process, "kill -TERM -- $(jobs -p | sed 's/^/-/'); wait; exit")
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()


def run(bash: "subprocess.Popen[str]", command: Command, way: Way) -> None:
    print(f"\n$ {command.first_line}", flush=True)
    text = f"python - <<'END_OF_BLOCK'\n{command.text}\nEND_OF_BLOCK" if command.language == "python" else command.text
    if way.stays:
        _start(bash, text, way.stays)
        return
    began = time.monotonic()
    status, said = _ask(bash, text)
    print(f"{said[-2000:]}\n[{time.monotonic() - began:.1f} s, status {status}]", flush=True)
    assert status in way.statuses, f"{command.first_line}: status {status}\n{said}"
    assert way.says in said, f"{command.first_line} does not say {way.says!r}"
    assert not way.never_says or way.never_says not in said


def _ask(bash: "subprocess.Popen[str]", text: str) -> tuple[int, str]:
    """Exit status, and what was printed."""
    say(bash, f"{text}\nprintf '\\nEND_OF_COMMAND %s\\n' $?")
    assert bash.stdout is not None
    said = ""
    for line in bash.stdout:
        if line.startswith("END_OF_COMMAND "):
            return int(line.split()[1]), said
        said += line
    raise AssertionError(f"the shell ended:\n{said}")


def _start(bash: "subprocess.Popen[str]", text: str, up: str) -> None:
    """In the background, until it says that it is up. Prints how long that took and the longest silence."""
    log = Path(f"/proc/{bash.pid}/cwd").resolve() / f"stays-{time.monotonic_ns()}.log"
    began = last = time.monotonic()
    say(bash, f"{{ {text.partition('#')[0].rstrip()} >{log} 2>&1; echo ENDED $? >>{log}; }} &")
    size, silence = 0, 0.0
    while time.monotonic() - began < WITHIN_S:
        time.sleep(POLL_S)
        said = log.read_text("utf-8", errors="replace") if log.exists() else ""
        if len(said) > size:
            size, silence, last = len(said), max(silence, time.monotonic() - last), time.monotonic()
        assert "\nENDED " not in f"\n{said}", f"{text} ended:\n{said}"
        if up in said and all(_answers(int(port)) for port in re.findall(r"--port (\d+)", text)):
            print(
                f"{said[-2500:]}\n[up after {last - began:.1f} s, never silent for more than {silence:.1f} s]",
                flush=True,
            )
            return
    raise AssertionError(f"{text} did not say {up!r}:\n{log.read_text('utf-8')}")


def say(bash: "subprocess.Popen[str]", text: str) -> None:
    assert bash.stdin is not None
    bash.stdin.write(f"{text}\n")
    bash.stdin.flush()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
