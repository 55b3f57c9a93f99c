import subprocess
import sys

import pytest
import typer

from deltaserve.client.cli import COMMANDS, app, load
from deltaserve.client.console.terminal import Status, Stop, reported
from deltaserve.errors import BadCheckpoint, UpstreamUnreachable
from tests.support.command import Command

HEAVY = ("torch", "transformers", "pydantic", "httpx2", "fastapi", "numpy", "rich")


def imported_by(*calls: tuple[str, ...]) -> set[str]:
    """Top packages that a fresh interpreter has loaded after these calls."""
    script = f"""
import sys
from deltaserve.client.cli import app
for call in {list(calls)!r}:
    try:
        app(call)
    except SystemExit:
        pass
sys.stderr.write(" ".join(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("--help") >= len(calls)
    return {name.partition(".")[0] for name in done.stderr.split()}


def test_the_list_of_commands_comes_without_heavy_imports():
    assert imported_by(("--help",)).isdisjoint(HEAVY)


def test_the_help_of_a_command_comes_without_models_or_server():
    assert imported_by(*((name, "--help") for name in COMMANDS)).isdisjoint({"torch", "transformers", "fastapi"})


@pytest.mark.parametrize("name", COMMANDS)
def test_a_listed_summary_is_the_first_line_of_the_commands_own_help(name: str):
    assert load(name).help.partition("\n")[0].strip() == COMMANDS[name].summary


def test_no_summary_is_cut_off_in_the_list(command: Command):
    listed = command("--help").stdout
    assert all(entry.summary in listed for entry in COMMANDS.values())


def test_an_unknown_command_is_a_usage_error_that_names_the_nearest(command: Command):
    result = command("complet")
    assert result.exit_code == Status.USAGE
    assert "Did you mean 'complete'" in result.stderr and not result.stdout


def test_the_version_is_the_installed_one(command: Command):
    from importlib.metadata import version

    assert command("--version").stdout.strip() == version("deltaserve")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Stop("No."), Status.FAILED),
        (UpstreamUnreachable("It is away."), Status.UNREACHABLE),
        (BadCheckpoint("It is torn."), Status.REFUSED),
    ],
)
def test_a_known_error_ends_with_its_sentence_and_status(
    error: Exception, status: Status, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(typer.Exit) as ended, reported():
        raise error
    out, err = capsys.readouterr()
    assert (ended.value.exit_code, out, err) == (status, "", f"{error}\n")


def test_an_unknown_error_is_not_hidden():
    with pytest.raises(ZeroDivisionError), reported():
        1 / 0  # noqa: B018


def test_every_status_is_explained():
    assert all(status.meaning for status in Status)
    assert app.info.cls is not None


@pytest.mark.parametrize("status", [0, 130])
def test_the_exit_status_of_serve_is_how_the_server_ended(
    command: Command, monkeypatch: pytest.MonkeyPatch, status: int
):
    monkeypatch.setattr("deltaserve.server.app.run", lambda _: status)
    assert command("serve", "--upstream-url", "http://127.0.0.1:9").exit_code == status
