"""complete, chat and compare, against real servers."""

import json
from collections.abc import Iterator

import pytest

from client.conversation import COMMANDS
from client.terminal import Status
from offset_models.tokenizer import Tokenizer
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


def test_complete_of_nothing_is_a_usage_error(command: Command):
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


def test_an_address_that_is_none_is_status_2(command: Command):
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
