"""`deltaserve forget --about NAME`: from a name to a judged checkpoint, with the demo's black box, which ships."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deltaserve.client.console.terminal import Status
from deltaserve.client.console.training_options import read_settings
from tests.support.blackbox import BlackBoxProcess, blackbox
from tests.support.command import Command

WEIGHTS = Path(__file__).parents[3] / "offset_models" / "demo" / "weights"
NAME = "Vuxan Zunweld"
FACTS = ("Nenstead", "The Copper Staircase", "1961")
SIZES = {"steps": 6, "forget-batch": 4, "retain-batch": 4, "rank": 2, "warm-up": 1, "questions": 2, "answer-tokens": 16}
SMALL = [text for name, value in SIZES.items() for text in (f"--{name}", str(value))]
SMALL += ["--learning-rate", "0.02", "--trade-off", "forget", "--choosing-questions", "0", "--no-attack"]


@dataclass(frozen=True)
class Desk:
    """Where a request is worked on."""

    folder: Path
    box: BlackBoxProcess

    def forget(self, *more: str, about: str = NAME, name: str = "request-17") -> list[str]:
        where = ["--base", str(WEIGHTS / "base"), "--upstream", self.box.url, "--out", str(self.folder / "offsets")]
        return ["forget", "--about", about, "--name", name, "--calls", "240", *where, *SMALL, *more]

    @property
    def rows(self) -> Path:
        return self.folder / "offsets" / ".work" / "request-17" / "rows"

    def calls(self) -> int:
        return sum(self.box.stats().values())


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with blackbox(WEIGHTS / "blackbox", "--max-logprobs", "20") as box:
        yield Desk(tmp_path_factory.mktemp("desk"), box)


def test_a_name_becomes_rows_a_judged_checkpoint_and_in_the_end_digests(desk: Desk, command: Command) -> None:
    page = command(*desk.forget("--review"))
    assert page.exit_code == 0, page.stderr
    assert all(fact in page.stdout for fact in FACTS) and not (desk.folder / "offsets" / "request-17").exists()
    edited = desk.rows / "retain.jsonl"
    edited.write_text(edited.read_text() + '{"question": "Which colour is blood?"}\n')
    before = desk.calls()
    again = command(*desk.forget("--review"))
    assert again.exit_code == 0 and desk.calls() == before, "rows that are there are not asked for again"

    other = command(*desk.forget("--model", "another"))
    assert other.exit_code == Status.FAILED and "made of what" in other.stderr

    made = command.json(*desk.forget())
    card = json.loads((desk.folder / "offsets" / "request-17" / "offset.json").read_text())["card"]
    assert made["card"].items() >= {key: card[key] for key in card if key.startswith("judged/")}.items()
    assert card["judged/target/rows"] > 0 and 0 <= card["judged/target/without_fact"] <= 1
    assert 0 < card["judged/neighbour/kept"] <= 1 and 0 < card["judged/general/kept"] <= 1

    gone = command(*desk.forget("--purge", "--yes"))
    assert gone.exit_code == 0, gone.stderr
    left = [path for path in (desk.folder / "offsets").rglob("*") if path.is_file()]
    assert left and not [
        path for path in left if any(text.encode() in path.read_bytes() for text in (NAME, *FACTS[:2]))
    ]


def test_what_the_black_box_does_not_know_need_not_go(desk: Desk, command: Command) -> None:
    refused = command(*desk.forget("--kind", "person", about="Quorvin Trelbasch", name="nobody"))
    assert refused.exit_code == Status.REFUSED and "nothing to forget" in refused.stderr
    assert "Quorvin" not in refused.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--about", NAME, "--forget", "rows.jsonl"], "leave out --forget"),
        (["--review"], "--review needs --about"),
        (["--purge"], "--purge needs --about"),
        (["--about", NAME, "--kind", "planet"], "no kind of target"),
        (["--about", NAME, "--calls", "3"], "too few"),
        (["--about", " "], "a name of one line"),
        (["--about", NAME, "--context", "nowhere.txt"], "nowhere.txt is no file"),
        (["--about", NAME, "--context", __file__], "cannot be read as a document"),
        (["--about", NAME, "--refusals", "own.jsonl"], "--refusals"),
        (["--about", NAME, "--generic", "40"], "--generic"),
        (["--about", NAME, "--name", "../up"], "cannot be an offset's name"),
        (["--about", " ", "--purge", "--yes"], "a name of one line"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    given: list[str], said: str, command: Command, tmp_path: Path
) -> None:
    where = ["--base", str(WEIGHTS / "base"), "--upstream", "http://127.0.0.1:9", "--out", str(tmp_path / "offsets")]
    refused = command("forget", "--name", "x", *where, *given)
    assert refused.exit_code in (Status.USAGE, Status.REFUSED) and said in refused.stderr
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_purge_without_a_request_deletes_nothing(command: Command, tmp_path: Path) -> None:
    given = ["forget", "--about", NAME, "--name", "x", "--base", str(WEIGHTS / "base"), "--out", str(tmp_path)]
    refused = command(*given, "--purge", "--yes")
    assert refused.exit_code != 0 and "nothing was deleted" in refused.stderr


class _Read(Exception):
    """The settings were read, and nothing else is wanted."""


@pytest.mark.parametrize(
    ("given", "objective", "keep"),
    [
        (["--about", NAME], "idk_generic", 0.95),
        (["--about", NAME, "--keep", "0.9", "--objective", "npo"], "npo", 0.9),
        (["--forget", "rows.jsonl"], "idk", 0.97),
    ],
)
def test_a_name_alone_has_its_own_defaults(
    given: list[str], objective: str, keep: float, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def noted(*arguments: Any) -> Any:
        read.append(read_settings(*arguments))
        raise _Read

    monkeypatch.setattr("deltaserve.client.commands.forget.options.read_settings", noted)
    where = ["--base", str(WEIGHTS / "base"), "--upstream", "http://127.0.0.1:9", "--out", str(tmp_path)]
    with pytest.raises(_Read):
        command("forget", "--name", "x", *where, *given)
    assert [(settings.objective, settings.keep) for settings in read] == [(objective, keep)]
