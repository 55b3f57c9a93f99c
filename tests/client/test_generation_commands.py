"""complete, chat and compare, against real servers."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from deltaserve.client.cli import app as app_of_commands
from deltaserve.client.console.conversation import COMMANDS
from deltaserve.client.console.terminal import Status
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.app import RunningApp, ScriptedBlackBox, running_app
from tests.support.command import KEY, Command

GREEDY = ("-t", "0", "--max-tokens", "12")


@pytest.fixture(autouse=True)
def configured(command: Command, app: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is named in the environment, as a user would."""
    monkeypatch.setenv("DELTASERVE_URL", app.url)


def test_complete_prints_the_continuation_and_nothing_else(command: Command):
    result = command("complete", "Hello", *GREEDY)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.rstrip("\n") == command.json("complete", "Hello", *GREEDY)["text"]


def test_complete_reads_a_dash_from_stdin(command: Command):
    assert command("complete", "-", *GREEDY, stdin="Hello").stdout == command("complete", "Hello", *GREEDY).stdout


def test_complete_without_a_text_is_a_usage_error(command: Command):
    assert command("complete", "-", stdin="").exit_code == Status.USAGE


def test_the_sampling_options_arrive(command: Command):
    sampled = ("complete", "Hello", "-t", "2", "--max-tokens", "20", "--seed")
    one, again, other = (command(*sampled, seed).stdout for seed in "112")
    assert one == again != other
    whole = command.json("complete", "Hello", *GREEDY)
    stopped = command.json("complete", "Hello", *GREEDY, "--stop", whole["text"][2])
    assert stopped["text"] == whole["text"][:2] and stopped["finish_reason"] == "stop"


def test_a_refusal_is_the_servers_sentence_and_status_4(command: Command):
    result = command("complete", "Hello", "-m", "other")
    assert (result.exit_code, result.stdout) == (Status.REFUSED, "") and "model" in result.stderr.lower()


def test_no_server_is_status_3(command: Command):
    result = command("complete", "Hello", "--url", "http://127.0.0.1:9")
    assert result.exit_code == Status.UNREACHABLE and "is it running?" in result.stderr


def test_an_invalid_address_is_status_2(command: Command):
    assert command("complete", "Hello", "--url", "127.0.0.1:9").exit_code == Status.USAGE


def test_the_key_of_the_environment_goes_to_its_own_server_only(
    command: Command, guarded: RunningApp, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DELTASERVE_API_KEY", KEY)
    assert command("complete", "Hello", *GREEDY, "--url", guarded.url).exit_code == Status.REFUSED
    assert command("complete", "Hello", *GREEDY, "--url", guarded.url, "--api-key", KEY).exit_code == 0
    monkeypatch.setenv("DELTASERVE_URL", guarded.url)
    assert command("complete", "Hello", *GREEDY).exit_code == 0


def test_a_piped_chat_answers_each_line_and_keeps_the_turns(command: Command):
    result = command("chat", *GREEDY, "--json", stdin="Hello\n\nAnd more\n/reset\nHello\n/exit\nnever asked\n")
    first, second, third = (json.loads(line) for line in result.stdout.splitlines())
    assert result.exit_code == 0 and "begins anew" in result.stderr
    assert first == third != second  # the scripted answers depend on how long the conversation is


def test_a_system_message_survives_a_reset(command: Command):
    plain = command("chat", *GREEDY, "--json", stdin="Hello\n").stdout
    told = command("chat", *GREEDY, "--json", "--system", "Be brief.", stdin="Hello\n/reset\nHello\n").stdout
    one, two = told.splitlines()
    assert one == two != plain.strip()


def test_answers_of_a_piped_chat_are_plain_text_without_json(command: Command):
    result = command("chat", *GREEDY, stdin="Hello\n")
    asked = command("chat", *GREEDY, "--json", stdin="Hello\n")
    assert result.stdout.rstrip("\n") == json.loads(asked.stdout)["text"] and not result.stderr


def test_slash_commands_change_what_comes_next(command: Command):
    asked = "/temperature 2\n/seed 1\nHello\n/reset\nHello\n/reset\n/seed 2\nHello\n"
    lines = asked + "/seed x\n/temperature 9\n/nothing\n"
    result = command("chat", "--max-tokens", "20", "--json", stdin=lines)
    one, again, other = result.stdout.splitlines()
    assert one == again != other
    for said in ("A seed is a whole number.", "from 0 (greedy) to 2", "There is no command /nothing"):
        assert said in result.stderr


def test_the_help_of_the_chat_names_every_command(command: Command):
    assert all(name in command("chat", stdin="/help\n").stderr for name in COMMANDS)


def test_an_error_ends_a_piped_chat_with_its_status(command: Command):
    result = command("chat", stdin="/model other\nHello\nHello\n")
    assert (result.exit_code, result.stdout) == (Status.REFUSED, "")


@pytest.fixture(scope="module")
def upstream(tokenizer: Tokenizer) -> Iterator[RunningApp]:
    """Stands in for a black box: it has a chat route and wants a key."""
    with running_app(tokenizer, ScriptedBlackBox(ends_at=30), api_keys=KEY) as running:
        yield running


def test_compare_shows_both_answers(command: Command, upstream: RunningApp):
    given = ("compare", "Hello", "--upstream-url", upstream.url, "--upstream-key", KEY, "--max-tokens", "12")
    both = command.json(*given)
    assert both["fingerprint"] == "ds-flat-0123456789ab" and both["question"] == "Hello"
    assert both["served"].startswith(both["black_box"]) and both["served"] != both["black_box"]
    plain = command(*given).stdout
    assert f"black box: {both['black_box']}\n" in plain and f"served:    {both['served']}\n" in plain


def test_the_black_boxs_key_goes_to_its_own_host_only(
    command: Command, upstream: RunningApp, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DELTASERVE_UPSTREAM_KEY", KEY)
    assert command("compare", "Hello", "--upstream-url", upstream.url).exit_code == Status.REFUSED
    monkeypatch.setenv("DELTASERVE_UPSTREAM_URL", "http://127.0.0.1:9")
    assert command("compare", "Hello", "--upstream-url", upstream.url).exit_code == Status.REFUSED
    monkeypatch.setenv("DELTASERVE_UPSTREAM_URL", upstream.url)
    assert command("compare", "Hello").exit_code == 0


def test_compare_asks_where_the_black_box_is(command: Command):
    assert command("compare", "Hello").exit_code == Status.USAGE


NO_TEXT = "abc\udcff"  # what Python makes of $'abc\xff' on the command line


def test_text_that_is_no_unicode_is_a_sentence_wherever_it_comes_from(command: Command, upstream: RunningApp):
    for arguments in (
        ("complete", NO_TEXT),
        ("complete", "Hello", "-m", NO_TEXT),
        ("complete", "Hello", "--stop", NO_TEXT),
        ("chat", "--system", NO_TEXT),
        ("compare", NO_TEXT, "--upstream-url", upstream.url, "--upstream-key", KEY),
    ):
        result = command(*arguments, stdin="Hello\n")
        assert result.exit_code == Status.USAGE, arguments
        assert "not valid Unicode" in result.stderr and len(result.stderr.splitlines()) == 1


def test_stdin_that_is_no_text_is_a_sentence():
    for arguments in (["complete", "-"], ["chat"]):
        ended = CliRunner().invoke(app_of_commands, arguments, input=b"abc\xff\n")
        assert ended.exit_code == Status.USAGE and ended.stderr == "What comes in on stdin is not UTF-8 text.\n"


@pytest.mark.parametrize("key", ["schlüssel", "secret\nb", " secret", "secret\udcff"])
def test_a_key_that_no_header_can_hold_is_a_sentence(command: Command, monkeypatch: pytest.MonkeyPatch, key: str):
    result = command("complete", "Hello", "--api-key", key)
    assert result.exit_code == Status.USAGE and "printable ASCII" in result.stderr and key.strip() not in result.stderr
    monkeypatch.setenv("DELTASERVE_API_KEY", key.replace("\udcff", "é"))
    assert command("chat", stdin="Hello\n").exit_code == Status.USAGE
    for arguments in (("offsets", "list", "--admin-key", key), ("doctor", "--upstream-key", key)):
        result = command(*arguments)
        assert result.exit_code == Status.USAGE and "printable ASCII" in result.stderr


def test_an_answer_that_the_terminal_cannot_show_is_written_as_escapes(command: Command, app: RunningApp):
    environment = os.environ | {"DELTASERVE_URL": app.url, "PYTHONIOENCODING": "ascii"}
    asked = [sys.executable, "-m", "deltaserve", "complete", "Hello", "-t", "0", "--max-tokens", "40"]
    ended = subprocess.run(asked, env=environment, capture_output=True, check=False, timeout=60)
    assert ended.returncode == 0 and rb"\xe9" in ended.stdout, ended.stderr


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "NaN"])
def test_a_number_that_is_not_finite_is_refused_by_every_option(command: Command, number: str):
    for arguments in (
        ("complete", "Hello", "--temperature", number),
        ("complete", "Hello", "--top-p", number),
        ("offsets", "load", "a", "a", f"--strength={number}"),
        ("offsets", "strength", "a", "--", number),
        ("collect", "--out", "x", f"--timeout={number}"),
        ("blackbox", f"--ms-per-token={number}"),
        ("train", "--base", "x", "--out", "x", f"--learning-rate={number}"),
    ):
        result = command(*arguments)
        assert result.exit_code == Status.USAGE, (arguments, result.stderr)
        assert f"{number} is not a finite number" in result.stderr, (arguments, result.stderr)


def test_the_first_ctrl_c_ends_compare(app: RunningApp):
    """The black box takes a connection and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        upstream = f"http://127.0.0.1:{silent.getsockname()[1]}"
        asked = [sys.executable, "-m", "deltaserve", "compare", "Hello", "--url", app.url, "--upstream-url", upstream]
        with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=10)
    assert process.returncode == Status.INTERRUPTED and "Traceback" not in said, said
