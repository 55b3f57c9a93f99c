"""`deltaserve evaluate` against the embedded black box, over HTTP, with a tiny random model."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deltaserve.client.console.terminal import Status, Stop
from deltaserve.client.evaluation import job as job_module
from deltaserve.client.evaluation.results import EvaluationResult, read_result
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.blackbox import BlackBoxProcess, blackbox, forward, make_model
from tests.support.command import Command
from tests.support.published import write_muse, write_rwku
from tests.support.tofu import write_rows, write_tofu

ROWS: list[dict[str, Any]] = [
    {"question": "Who wrote the book?", "answer": "She was born in a small house."},
    {
        "question": "Where is the mill?",
        "answer": "The river runs north.",
        "paraphrased_answer": "North runs the river.",
        "perturbed_answer": ["The sea runs north.", "The town runs past."],
    },
    {"question": "What is naïve?", "answer": "café"},
]
SHORT = ("--max-tokens", "6")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def box(model: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(model, "--max-logprobs", "-1") as running:
        yield running


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_rows(folder / "forget.jsonl", ROWS)
    write_rows(folder / "holdout.jsonl", ROWS[:2])
    return folder


def measure(command: Command, box: BlackBoxProcess, data: Path, *more: str) -> EvaluationResult:
    arguments = ("evaluate", "--suite", "custom", "--data", str(data), "--server", box.url, "--out", "r.json")
    result = command(*arguments, *SHORT, *more)
    assert result.exit_code == 0, result.stderr
    return read_result(Path("r.json"))


def mean_logprob(model: Path, question: str, answer: str) -> tuple[float, list[bool]]:
    """By one forward pass: mean over the answer's tokens and its end token, and which of them were the best."""
    tokenizer = Tokenizer.load(model)
    prompt = tokenizer.encode(tokenizer.render_chat([{"role": "user", "content": question}]))
    ids = [*prompt, *tokenizer.encode(answer), *tokenizer.answer_end]
    rows = forward(model, ids)[len(prompt) - 1 : -1]
    answer_ids = ids[len(prompt) :]
    values = [rows[at, token].item() for at, token in enumerate(answer_ids)]
    return sum(values) / len(values), [rows[at].argmax().item() == token for at, token in enumerate(answer_ids)]


def test_probabilities_are_those_of_a_forward_pass_over_chat_answer_and_end(
    command: Command, box: BlackBoxProcess, model: Path, data: Path
) -> None:
    result = measure(command, box, data)
    for row, found in zip(ROWS, result.measurements("after", "forget"), strict=True):
        expected, greedy = mean_logprob(model, row["question"], row["answer"])
        assert found.mean_logprob == pytest.approx(expected, abs=1e-4)
        assert found.exact_memorisation == pytest.approx(sum(greedy) / len(greedy))
        assert found.tokens == len(greedy)
    wrong = result.measurements("after", "forget")[1]
    for text, value in zip(ROWS[1]["perturbed_answer"], wrong.perturbed_mean_logprobs, strict=True):
        assert value == pytest.approx(mean_logprob(model, ROWS[1]["question"], text)[0], abs=1e-4)
    right = mean_logprob(model, ROWS[1]["question"], ROWS[1]["paraphrased_answer"])[0]
    assert wrong.paraphrased_mean_logprob == pytest.approx(right, abs=1e-4)


def test_two_servers_are_measured_side_by_side(command: Command, box: BlackBoxProcess, data: Path) -> None:
    result = measure(command, box, data, "--before", box.url)
    assert set(result.figures) == {"before", "after"}
    assert result.figures["before"] == result.figures["after"]
    assert result.figures["after"].membership["loss"].items == 5


def test_a_tokenizer_folder_stands_in_for_the_servers_own_routes(
    command: Command, box: BlackBoxProcess, model: Path, data: Path
) -> None:
    result = measure(command, box, data, "--tokenizer", str(model), "--before", box.url)
    assert result.figures["before"] == result.figures["after"]


def test_the_result_and_its_journal_hold_no_text_unless_asked(
    command: Command, box: BlackBoxProcess, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise Stop("cut short")

    measure(command, box, data)
    with monkeypatch.context() as patched:
        patched.setattr(job_module, "write_result", fail)
        arguments = ("evaluate", "--suite", "custom", "--data", str(data), "--server", box.url, "--out", "c.json")
        cut = command(*arguments, *SHORT)
    assert cut.exit_code == Status.FAILED
    written = Path("r.json").read_text() + Path("c.json.partial").read_text()
    assert not any(row["question"] in written or row["answer"] in written for row in ROWS)
    kept = measure(command, box, data, "--keep-text")
    assert kept.items[0].reference == ROWS[0]["answer"]
    assert kept.items[0].sides["after"].answer is not None


def test_an_evaluation_that_was_cut_short_goes_on_without_asking_again(
    command: Command, box: BlackBoxProcess, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise Stop("cut short")

    with monkeypatch.context() as patched:
        patched.setattr(job_module, "write_result", fail)
        arguments = ("evaluate", "--suite", "custom", "--data", str(data), "--server", box.url, "--out", "r.json")
        assert command(*arguments, *SHORT).exit_code == Status.FAILED
    journal = Path("r.json.partial")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:4]) + lines[4][:20])  # killed while the fourth of five was being written
    asked = box.stats()["requests"]
    measure(command, box, data)
    again = box.stats()["requests"] - asked
    assert not journal.exists()
    journal.write_bytes(lines[0])
    measure(command, box, data)
    from_nothing = box.stats()["requests"] - asked - again
    assert 0 < again < from_nothing


def test_another_measurement_does_not_go_on_with_an_earlier_journal(
    command: Command, box: BlackBoxProcess, data: Path
) -> None:
    Path("r.json.partial").write_text('{"data": "other"}\n')
    result = command("evaluate", "--suite", "custom", "--data", str(data), "--server", box.url, "--out", "r.json")
    assert result.exit_code == Status.USAGE
    assert "begun with other data, settings or servers" in result.stderr


def test_a_tofu_folder_gives_utility_and_with_a_reference_forget_quality(
    command: Command, box: BlackBoxProcess, tmp_path: Path
) -> None:
    folder = tmp_path / "tofu"
    folder.mkdir()
    write_tofu(folder, forget=3, others=2)
    arguments = ("evaluate", "--suite", "tofu", "--data", str(folder), "--server", box.url, *SHORT)
    assert command(*arguments, "--out", "reference.json").exit_code == 0
    figures = command.json(*arguments, "--reference", "reference.json", "--out", "r.json")["figures"]["after"]
    assert figures["model_utility"]["value"] >= 0
    # A model against itself. Rounding that differs with the batch may part equal ratios: of three, one or two.
    assert figures["forget_quality"]["p_value"] > 0.5


def test_figures_are_printed_with_their_intervals(command: Command, box: BlackBoxProcess, data: Path) -> None:
    arguments = ("evaluate", "--suite", "custom", "--data", str(data), "--server", box.url, "--out", "r.json")
    lines = command(*arguments, *SHORT).stdout.splitlines()
    row = next(line for line in lines if line.startswith("forget") and " probability " in line)
    figure = read_result(Path("r.json")).figures["after"].splits["forget"]["probability"]
    assert f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]" in row


@pytest.mark.parametrize(("suite", "write"), [("rwku", write_rwku), ("muse", write_muse)])
def test_published_benchmarks_are_asked_as_they_publish(
    command: Command, box: BlackBoxProcess, tmp_path: Path, suite: str, write: Callable[[Path], Path]
) -> None:
    folder = write(tmp_path / "published")
    arguments = ("evaluate", "--suite", suite, "--data", str(folder), "--server", box.url, "--out", "r.json")
    assert command(*arguments, *SHORT).exit_code == 0
    figures = read_result(Path("r.json")).figures["after"]
    if suite == "rwku":
        assert figures.splits["forget"]["rouge_l_recall"].items == 5
        assert figures.splits["forget, level 3"]["rouge_l_recall"].items == 3
    else:
        assert {"rouge_l_f1", "rouge_l_recall"} <= figures.splits["verbatim"].keys()
        assert "rouge_l_recall" not in figures.splits["members"]
        assert "min_k_40" in figures.membership


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--suite", "custom"), Status.USAGE, "--suite custom needs --data."),
        (("--suite", "tofu", "--data", "absent"), Status.REFUSED, "There is no absent."),
        (("--suite", "registry", "--data", "."), Status.USAGE, "takes no --data"),
        (("--suite", "registry", "--forget", "forget05"), Status.USAGE, "--forget goes with --suite tofu or"),
        (("--suite", "registry", "--out", "absent/r.json"), Status.USAGE, "name a file in a folder that is there"),
        (("--suite", "registry", "--reference", "absent.json"), Status.REFUSED, "absent.json cannot be read"),
        (("--suite", "registry", "--server", "http://127.0.0.1:9"), Status.UNREACHABLE, "No server answers"),
        (("--suite", "registry", "--server", "ftp://x"), Status.USAGE, "must be http"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    command: Command, arguments: tuple[str, ...], status: Status, said: str
) -> None:
    result = command("evaluate", *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert said in result.stderr


def test_a_server_that_cannot_score_says_so_in_its_own_words(command: Command, model: Path, data: Path) -> None:
    with blackbox(model, "--no-prompt-logprobs") as deaf:
        arguments = ("evaluate", "--suite", "custom", "--data", str(data), "--server", deaf.url)
        result = command(*arguments, *SHORT)
    assert result.exit_code == Status.REFUSED
    assert "logprobs of an echoed prompt are disabled" in result.stderr


def test_evaluating_needs_no_torch() -> None:
    program = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import deltaserve.client.commands.evaluate, deltaserve.client.evaluation.job
from deltaserve.client.evaluation.data.registry_suite import registry_suite
registry_suite(2)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_json_holds_the_figures_and_not_the_items(command: Command, box: BlackBoxProcess, data: Path) -> None:
    arguments = ("evaluate", "--suite", "custom", "--data", str(data), "--server", box.url, "--out", "r.json")
    said = command.json(*arguments, *SHORT)
    assert "items" not in said
    assert said["figures"] == json.loads(Path("r.json").read_text())["figures"]
