from dataclasses import fields
from pathlib import Path

import pytest

import deltaserve.offset_models.demo.blackbox as blackbox_module
from deltaserve.client.cli import load
from deltaserve.client.console.server_settings import read_settings
from deltaserve.client.console.terminal import Status, Stop
from deltaserve.offset_models.demo.blackbox import Options
from deltaserve.server.settings import Settings
from tests.support.command import Command


def options_of(name: str) -> set[str]:
    return {option for parameter in load(name).params for option in parameter.opts}


@pytest.mark.parametrize("name", ["serve", "doctor"])
def test_every_setting_of_the_server_is_an_option(name: str):
    assert {f"--{field.replace('_', '-')}" for field in Settings.model_fields} <= options_of(name)


def test_every_option_of_the_embedded_black_box_is_one_here_too():
    assert {f"--{field.name.replace('_', '-')}" for field in fields(Options)} <= options_of("blackbox")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Settings that `serve` would have started with."""

    seen: list[Settings] = []
    monkeypatch.setattr("deltaserve.server.app.run", seen.append)
    return seen


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    command: Command, served: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "settings.toml").write_text("upstream_k = 3\nmax_n = 3\nmax_queue = 3\n")
    monkeypatch.setenv("DELTASERVE_CONFIG", "unset")  # so that what the command sets is put back
    monkeypatch.setenv("DELTASERVE_UPSTREAM_K", "4")
    monkeypatch.setenv("DELTASERVE_MAX_N", "4")
    result = command("serve", "--config", "settings.toml", "--upstream-k", "5", "--no-playground")
    assert result.exit_code == 0, result.stderr
    (settings,) = served
    assert (settings.upstream_k, settings.max_n, settings.max_queue) == (5, 4, 3)
    assert settings.playground is False and settings.metrics is True


def test_secrets_and_lists_keep_their_types(command: Command, served: list[Settings]):
    assert command("serve", "--api-keys", "a, b", "--upstream-key", "c", "--host", "0.0.0.0").exit_code == 0
    (settings,) = served
    assert [key.get_secret_value() for key in settings.api_keys] == ["a", "b"]
    assert [key.get_secret_value() for key in settings.upstream_key] == ["c"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--port", "70000"), "port: Input should be less than or equal to 65535"),
        (("--host", "0.0.0.0"), "without api_keys the server listens on loopback only"),
        (("--upstream-k", "many"), "Invalid value for '--upstream-k'"),
        (("--upstrem-url", "x"), "No such option: --upstrem-url"),
    ],
)
def test_a_wrong_setting_is_a_usage_error(
    command: Command, served: list[Settings], arguments: tuple[str, ...], sentence: str
):
    result = command("serve", *arguments)
    assert result.exit_code == Status.USAGE and not served
    assert sentence in result.stderr and "Traceback" not in result.stderr


def test_the_clients_variables_do_not_stop_a_server_but_it_says_which_are_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("DELTASERVE_API_KEY", "secret")
    monkeypatch.setenv("DELTASERVE_URL", "http://127.0.0.1:9")
    assert read_settings({"port": 8123}).port == 8123
    said = capsys.readouterr().err
    assert "DELTASERVE_API_KEYS" in said and "secret" not in said


def test_an_unknown_variable_of_the_server_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DELTASERVE_UPSTREAM_URI", "x")
    with pytest.raises(Stop, match="did you mean DELTASERVE_UPSTREAM_URL"):
        read_settings({})


def test_the_black_box_gets_what_was_given(command: Command, monkeypatch: pytest.MonkeyPatch):
    seen: list[Options] = []
    monkeypatch.setattr("deltaserve.client.commands.blackbox.run", seen.append)
    given = ("--port", "0", "--no-logprobs", "--api-key", "a", "--api-key", "b", "--no-prompt-tokens-details")
    assert command("blackbox", *given).exit_code == 0
    assert seen == [Options(port=0, no_logprobs=True, api_key=["a", "b"], prompt_tokens_details=False)]  # type: ignore[arg-type]
    assert blackbox_module.parse([*given]).no_logprobs is True


def test_invalid_options_of_the_black_box_are_a_usage_error(command: Command):
    result = command("blackbox", "--slots", "0")
    assert result.exit_code == Status.USAGE and "slots at least 2" in result.stderr
