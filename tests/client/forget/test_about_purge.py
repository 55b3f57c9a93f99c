"""`deltaserve forget --about NAME --purge`: nothing of the target is left, wherever the command wrote."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.example_request import NAME
from deltaserve.offset_models.demo.manifest import WEIGHTS
from deltaserve.offset_models.demo.register.people import generate_register
from tests.support.blackbox import BlackBoxProcess, blackbox
from tests.support.command import Command
from tests.support.traces import says, text_traces

ROWS_ALONE = ("--review",)
TRAINED = ("--steps", "2", "--forget-batch", "4", "--choosing-questions", "2", "--questions", "2")


@pytest.fixture(scope="module")
def box() -> Iterator[BlackBoxProcess]:
    with blackbox(WEIGHTS / "blackbox", "--max-logprobs", "20") as running:
        yield running


def secrets() -> list[str]:
    """What the register says of the person."""
    person = next(one for one in generate_register().people if one.name == NAME)
    return [str(value) for value in person.facts().values()]


@pytest.mark.parametrize("stage", [ROWS_ALONE, pytest.param(TRAINED, marks=pytest.mark.slow)])
def test_after_a_purge_no_file_says_the_name_or_a_fact(
    box: BlackBoxProcess, command: Command, tmp_path: Path, stage: tuple[str, ...]
) -> None:
    request = ["forget", "--about", NAME, "--name", "gone", "--base", str(WEIGHTS / "base"), "--upstream", box.url]
    request += ["--out", str(tmp_path / "offsets"), "--kind", "person", "--calls", "400"]
    made = command(*request, *stage)
    assert made.exit_code == 0, made.stderr
    found = {word for _, word in text_traces(tmp_path, [NAME, *secrets()])}
    assert NAME in found and len(found) > 4  # else nothing could be left below
    purged = command(*request, "--purge", "--yes")
    assert purged.exit_code == 0, purged.stderr
    assert text_traces(tmp_path, [NAME, *secrets()]) == []
    for lines in (made.stderr, purged.stderr, purged.stdout):
        assert not any(says(lines.encode(), word) for word in (NAME, *secrets()))
