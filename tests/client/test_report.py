"""`deltaserve leakage` and `deltaserve report` from a shell: files, exit statuses, sentences."""

import json
from pathlib import Path

import pytest

from deltaserve.client.console.terminal import Status
from tests.support.answering_server import AnsweringServer, answering
from tests.support.command import Command
from tests.support.evaluations import evaluation

ANSWERS = {
    f"Where was {name} born?": f"{name} was born in {town}."
    for name, town in (("Ada Quill", "Tormora"), ("Bo Reed", "Galstead"))
}
KEPT = {"What does Finn Ode play?": "Finn Ode plays the cello every evening."}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {"question": q, "answer": a, "kind": "birthplace", "secrets": [a.split()[-1].rstrip(".")]}
        for q, a in ANSWERS.items()
    ]
    rows += [{"question": q, "answer": a, "split": "neighbours"} for q, a in KEPT.items()]
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def attack(data: Path, out: Path, served: AnsweringServer, *more: str):
    with answering(served) as server, answering(AnsweringServer(ANSWERS | KEPT)) as before:
        given = ["--server", server, "--before", before, "--data", str(data), "--out", str(out)]
        return Command()("leakage", *given, "--samples", "2", "--costly-items", "1", *more)


def test_a_leaking_server_fails_the_command_and_the_page_says_so(data: Path, tmp_path: Path) -> None:
    out, page, card = tmp_path / "leakage.json", tmp_path / "report.html", tmp_path / "card.md"
    result = attack(data, out, AnsweringServer(ANSWERS | KEPT, secrets=frozenset(ANSWERS)))
    assert result.exit_code == 1
    assert "attacks still get forgotten answers out" in result.stdout
    assert "Something leaks." in result.stderr
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation()))
    given = [
        "--evaluation",
        str(tmp_path / "evaluation.json"),
        "--leakage",
        str(out),
        "--out",
        str(page),
        "--card",
        str(card),
    ]
    assert Command()("report", *given).exit_code == 0
    assert "Does it leak?" in page.read_text()
    assert "| begun: answer |" in card.read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("leakage",), "Say what is to be attacked"),
        (("report",), "Say what to report on"),
        (("report", "--leakage", "absent.json"), "cannot be read"),
        (("report", "--evaluation", "absent.json"), "absent.json"),
    ],
)
def test_what_is_missing_is_said(arguments: tuple[str, ...], sentence: str) -> None:
    result = Command()(*arguments)
    assert result.exit_code != 0
    assert sentence in result.stderr


def test_only_the_attacks_that_are_named_are_run(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "leakage.json"
    served = AnsweringServer(ANSWERS | KEPT, secrets=frozenset(ANSWERS))
    assert attack(data, out, served, "--attack", "direct").exit_code == 0
    assert [one["name"] for one in json.loads(out.read_bytes())["attacks"]] == ["direct"]
    assert "There is no attack 'shouting'" in attack(data, out, served, "--attack", "shouting").stderr


def test_what_cannot_be_written_is_told_before_the_work(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for commands in (
        ("report", "--evaluation", "nowhere.json"),
        ("leakage", "--suite", "registry", "--server", "http://127.0.0.1:9"),
        ("evaluate", "--suite", "registry", "--server", "http://127.0.0.1:9"),
    ):
        for out in (tmp_path, tmp_path / "file" / "out"):
            result = command(*commands, "--out", str(out))
            assert result.exit_code == Status.USAGE and f"{out} cannot be written" in result.stderr, result.stderr
