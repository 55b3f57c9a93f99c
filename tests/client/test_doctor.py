"""doctor, with a real offset engine and the embedded black box as a process."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltaserve.client.commands.doctor import BRIDGED, SAME
from deltaserve.client.console.terminal import Status
from deltaserve.offset_models.checkpoints.pack import pack_adapter
from tests.support.blackbox import BlackBoxProcess, blackbox
from tests.support.command import Command
from tests.support.demo_weights import OFFSET, make_demo_weights
from tests.support.nursery import nursery

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_weights(tmp_path_factory.mktemp("doctor") / "weights")


@pytest.fixture(scope="module")
def upstream(weights: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(weights / "blackbox") as process:
        yield process


def offset_of(weights: Path) -> tuple[str, ...]:
    return ("--offsets-root", str(weights), "--offset", OFFSET, "--torch-threads", "1", "--max-context", "128")


def test_missing_settings_are_named_all_at_once(command: Command):
    result = command("doctor")
    assert result.exit_code == Status.USAGE
    assert "--upstream-url" in result.stderr and "--offset" in result.stderr


def test_an_offset_that_fits_its_black_box_has_no_problem(command: Command, weights: Path, upstream: BlackBoxProcess):
    found = command.json("doctor", "--upstream-url", upstream.url, *offset_of(weights))
    assert found["ok"] and not found["problems"]
    assert found["offset"]["name"] == OFFSET and found["offset"]["vocab_size"] == 360
    assert found["offset"]["tokenizer"] == SAME
    assert (found["upstream"]["dialect"], found["upstream"]["k"], found["upstream"]["ids_out"]) == ("vllm", 20, True)
    assert found["upstream"]["exactness"]["lists"].startswith("20 tokens at each position, by their ids")


def test_an_offset_of_another_tokenizer_is_said_to_be_bridged(
    command: Command, weights: Path, upstream: BlackBoxProcess, tmp_path: Path
):
    own = Path(shutil.copytree(weights / "blackbox", tmp_path / "own"))
    written = json.loads((own / "tokenizer.json").read_text())
    written["model"]["merges"].append(written["model"]["merges"][-1])  # which changes no text's ids
    (own / "tokenizer.json").write_text(json.dumps(written))
    flags = ("--upstream-url", upstream.url, "--upstream-tokenizer", str(own))
    found = command.json("doctor", *flags, *offset_of(weights))
    assert found["ok"], found["problems"]
    assert found["offset"]["tokenizer"] == BRIDGED


def test_people_get_tables_and_nothing_of_the_libraries_on_stdout(
    command: Command, weights: Path, upstream: BlackBoxProcess
):
    result = command("doctor", "--upstream-url", upstream.url, *offset_of(weights))
    assert result.exit_code == 0 and "would start" in result.stderr
    assert result.stdout.startswith("offset\n") and "raw_logprobs" in result.stdout
    assert "what that means" in result.stdout and "a restart costs" in result.stdout
    assert "upstream_probed" not in result.stdout


def test_a_black_box_that_is_away_is_status_3_and_says_what_to_do(command: Command, weights: Path):
    result = command("doctor", "--upstream-url", NOWHERE, *offset_of(weights))
    assert result.exit_code == Status.UNREACHABLE
    assert f"correct --upstream-url ({NOWHERE})" in result.stderr and "canary" in result.stdout
    assert "retry" not in result.stdout


def test_an_offset_that_is_not_there_is_status_4(command: Command, weights: Path):
    result = command("doctor", "--upstream-url", NOWHERE, "--offsets-root", str(weights), "--offset", "other")
    assert result.exit_code == Status.REFUSED
    assert "The offset cannot be served" in result.stderr and "was not probed" in result.stderr


def test_the_state_of_a_running_server_is_left_alone(command: Command, weights: Path, tmp_path: Path):
    state = tmp_path / "state"
    command("doctor", "--upstream-url", NOWHERE, *offset_of(weights), "--state-folder", str(state))
    assert not state.exists()


@pytest.fixture(scope="module")
def quantised(weights: Path) -> str:
    """A checkpoint whose base asks for a quantiser."""
    base = weights / "quantised"
    shutil.copytree(weights / "base", base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
    about = {"name": "on-quantised", "base_path": "../quantised", "licence": "MIT"}
    pack_adapter(weights / "on-quantised", adapter_folder=weights.parent / "adapter", base_folder=base, **about)
    return "on-quantised"


def test_an_offset_that_cannot_be_loaded_is_a_sentence_and_status_4(command: Command, weights: Path, quantised: str):
    place = ("--offsets-root", str(weights), "--offset", quantised, "--torch-threads", "1")
    result = command("doctor", "--upstream-url", NOWHERE, *place)
    assert result.exit_code == Status.REFUSED
    assert "quantised is quantised (quantization_config: awq)" in result.stderr
    # A server's process ends in the same words: it changes the signals of its process, so it gets one of its own.
    ended = nursery().run("deltaserve", "serve", "--upstream-url", NOWHERE, *place, "--port", "0", within_s=120)
    assert ended.returncode == Status.REFUSED, ended.stderr
    assert "quantised is quantised (quantization_config: awq)" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr + ended.stdout
