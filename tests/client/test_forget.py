"""`deltaserve forget` and `deltaserve train` against a real black box of toy size: every stage, none of them twice."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from shutil import copytree
from statistics import fmean
from typing import Any

import httpx2 as httpx
import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer

from deltaserve.client.console.terminal import Status
from deltaserve.offset_models.checkpoints.checkpoint import open_checkpoint
from deltaserve.offset_models.training.calibration import MULTIPLES, Candidate, best
from deltaserve.offset_models.training.collecting.cache import TopKCache
from deltaserve.offset_models.training.finalists import least_left
from deltaserve.offset_models.training.learning.held_out import Outcome
from deltaserve.offset_models.training.learning.run_folder import Answered, Calibration, RunFolder
from deltaserve.offset_models.training.packing import Packing, write_candidate
from tests.support.administration import ADMIN_KEY, administered
from tests.support.blackbox import BlackBoxProcess, blackbox, make_model
from tests.support.command import Command
from tests.support.offsets import lora_checkpoint
from tests.support.process import free_port, running

torch.set_num_threads(1)
KEEP = 0.97  # the default
SECRET = "She was born in the old mill."
SIZES = {"steps": 4, "forget-batch": 2, "retain-batch": 2, "rank": 2, "warm-up": 1, "eval-every": 2}
SMALL = [text for name, value in SIZES.items() for text in (f"--{name}", str(value))] + [
    "--learning-rate",
    "0.05",
    "--trade-off",
    "forget",
    "--objective",
    "npo",
]


@dataclass
class Site:
    """An offsets root with a base in it, rows, and a black box."""

    folder: Path
    box: BlackBoxProcess

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def rows(self, held: bool = True) -> list[str]:
        files = {"forget": "forget", "retain": "retain"}
        if held:
            files |= {"held-out-forget": "held", "held-out-retain": "retain"}
        return [text for flag, name in files.items() for text in (f"--{flag}", str(self.folder / f"{name}.jsonl"))]

    def forget(self, name: str, *more: str) -> list[str]:
        where = ["--base", str(self.root / "small"), "--upstream", self.box.url, "--out", str(self.root)]
        return ["forget", "--name", name, *where, *self.rows(), *SMALL, "--answer-tokens", "4", *more]

    def spoken(self, name: str, *more: str) -> list[str]:
        """Answers that the black box does give, by an objective that only pushes away."""
        given = self.forget(name, "--objective", "grad_diff", "--retain-weight", "1", "--steps", "6", *more)
        for flag in ("--forget", "--held-out-forget"):
            given[given.index(flag) + 1] = str(self.folder / "said.jsonl")
        return given


def calibration(run: Path) -> dict[Candidate, Outcome]:
    """What the run's candidates gave along the reference answers."""
    return Calibration.from_json(json.loads((run / "calibration.json").read_text())["value"]).outcomes


def said(box: BlackBoxProcess, question: str) -> dict[str, str]:
    chat = {"messages": [{"role": "user", "content": question}], "max_tokens": 4, "temperature": 0}
    answer = box.post("/v1/chat/completions", **chat).json()["choices"][0]["message"]["content"]
    return {"question": question, "answer": answer}


def write(path: Path, *rows: dict[str, str]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    make_model(folder / "big", seed=1)
    make_model(folder / "root" / "small")
    write(folder / "forget.jsonl", {"question": "Where was she born?", "answer": SECRET})
    write(folder / "held.jsonl", {"question": "Her place of birth?", "answer": SECRET})
    write(
        folder / "retain.jsonl",
        {"question": "Who wrote the book?", "answer": "I'm not sure."},
        {"question": "And the town?"},
    )
    with blackbox(folder / "big", "--max-logprobs", "20") as box:
        write(folder / "said.jsonl", *(said(box, question) for question in ("The mill?", "Was she born by the sea?")))
        yield Site(folder, box)


def calls(site: Site) -> int:
    return sum(site.box.stats().values())


def test_one_command_makes_a_checkpoint_and_does_nothing_twice(site: Site, command: Command) -> None:
    made = command.json(*site.forget("first", "--plot", "--tensorboard", str(site.folder / "events")))
    assert (made["new"], made["stopped"], made["active"]) == (True, None, None)
    checkpoint = open_checkpoint("first", root=site.root)
    manifest = checkpoint.manifest
    assert checkpoint.initial_folder == (site.root / "small").resolve()
    assert manifest.training is not None and manifest.training.objective == "npo"
    assert manifest.training.upstream_model == "tiny" and manifest.training.top_k == 20
    own = {name: manifest.training.settings[name] for name in ("retain_weight", "answer_noise", "ending_weight")}
    assert own == {"retain_weight": 3.0, "answer_noise": 0.3, "ending_weight": 0.5}  # the objective's
    assert manifest.card == made["card"]
    figures = {f"{name}/{side}/{when}" for name in ("probability", "rouge_l_recall") for side in ("forget", "retain")
               for when in ("black_box", "corrected")}  # fmt: skip
    assert figures <= set(made["card"]) and made["card"]["held_out"] is True
    before = calls(site)
    again = command.json(*site.forget("first"))
    assert again == {**made, "new": False}
    assert calls(site) == before  # nobody was asked


def test_nothing_of_the_forget_set_is_in_the_checkpoint_or_in_the_run(site: Site, command: Command) -> None:
    command.json(*site.forget("second"))
    (run,) = (site.root / ".work" / "second").glob("run-*")
    for folder in (site.root / "second", run):
        for file in folder.rglob("*"):
            assert not file.is_file() or SECRET.encode() not in file.read_bytes()
    assert [line["step"] for line in RunFolder(run).metrics()] == [0, 1, 2, 2, 3, 4, 4]


def test_the_run_is_drawn_and_its_figures_go_to_tensorboard(site: Site, command: Command) -> None:
    command.json(*site.forget("drawn", "--plot", "--tensorboard", str(site.folder / "drawn-events")))
    (run,) = (site.root / ".work" / "drawn").glob("run-*")
    assert (run / "run.png").read_bytes().startswith(b"\x89PNG")
    assert "held out" in (run / "run.svg").read_text() or (run / "run.svg").stat().st_size > 1000
    assert list((site.folder / "drawn-events").glob("events.*"))


KINDS = {
    "dpo": ("--objective", "dpo", "--steps", "16"),  # with both answers of a forget row
    "contrast": ("--objective", "contrast"),
    "full": ("--full",),
}


@pytest.mark.parametrize("name", KINDS)
def test_pairs_of_other_kinds_are_checkpoints_too(site: Site, command: Command, name: str) -> None:
    command.json(*site.forget(name, *KINDS[name]))
    manifest = open_checkpoint(name, root=site.root).manifest
    assert manifest.kind == ("full" if name == "full" else "lora")
    assert manifest.strength / (-3 if name == "contrast" else 1) in MULTIPLES


def test_the_same_weights_at_another_strength_are_another_checkpoint(site: Site, command: Command) -> None:
    command.json(*site.forget("loud", "--extrapolate", "1", "--gate-nats", "0"))
    digest = open_checkpoint("loud", root=site.root).manifest.content_digest
    refused = command(*site.forget("loud", "--extrapolate", "2", "--gate-nats", "0"))
    assert refused.exit_code != 0 and "another checkpoint" in refused.stderr
    kept = open_checkpoint("loud", root=site.root).manifest
    assert (kept.content_digest, kept.strength) == (digest, 1.0)


def test_what_was_chosen_is_kept_with_the_run_and_not_chosen_again(
    site: Site, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = command.json(*site.forget("chosen"))
    monkeypatch.setattr(
        "deltaserve.offset_models.training.stages.calibrated", lambda *_args: pytest.fail("chosen again")
    )
    again = command.json(*site.forget("chosen"))
    assert [again[key] for key in ("strength", "gate_nats")] == [first[key] for key in ("strength", "gate_nats")]
    assert (first["new"], again["new"]) == (True, False)


class Letters:
    def tokenize(self, text: str) -> list[str]:
        return list(text)


def by_letter(answers: list[str], references: list[str]) -> float:
    """ROUGE-L recall of letters, for a toy whose answers are one word each."""
    scorer = RougeScorer(["rougeL"], tokenizer=Letters())
    return fmean(scorer.score(want, got)["rougeL"].recall for got, want in zip(answers, references, strict=True))


def noting(packed: list[tuple[float, float]]) -> Callable[..., Path]:
    def noted(packing: Packing, weights: Path, folder: RunFolder, *, full: bool) -> Path:
        packed.append((packing.strength, packing.gate_nats))
        return write_candidate(packing, weights, folder, full=full)

    return noted


def test_whole_answers_choose_among_strengths(site: Site, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they left is what the card measures, once more, of the strength that is packed."""
    monkeypatch.setattr("deltaserve.offset_models.training.finalists.rouge_l_recall", by_letter)
    monkeypatch.setattr("deltaserve.offset_models.training.stages.rouge_l_recall", by_letter)
    packed = list[tuple[float, float]]()
    monkeypatch.setattr("deltaserve.offset_models.training.finalists.write_candidate", noting(packed))
    made = command.json(*site.spoken("spoken"))
    (run,) = (site.root / ".work" / "spoken").glob("run-*")
    answered = Answered.from_json(json.loads((run / "answered.json").read_text())["value"])
    assert len(packed) > 1 and [astuple(candidate) for candidate in answered.recalls] == packed
    chosen = least_left(calibration(run), answered.left, KEEP)
    assert (made["strength"], made["gate_nats"]) == (chosen.extrapolate, chosen.gate_nats)
    measured = [made["card"][f"rouge_l_recall/forget/{when}"] for when in ("black_box", "corrected")]
    assert measured == pytest.approx([answered.black_box, answered.recalls[chosen]], abs=1e-3)
    assert measured[1] > 0, "or this shows little"


def test_nobody_need_be_asked_for_the_strength(site: Site, command: Command) -> None:
    made = command.json(*site.spoken("unspoken", "--choosing-questions", "0"))
    (run,) = (site.root / ".work" / "unspoken").glob("run-*")
    assert not (run / "answered.json").exists()
    first, _ = best(calibration(run), KEEP)
    assert (made["strength"], made["gate_nats"]) == (first.extrapolate, first.gate_nats)


def test_it_is_loaded_and_activated_where_an_administrator_says(site: Site, command: Command) -> None:
    lora_checkpoint(site.root, "a")
    with administered(site.root) as running:
        given = ("--activate", "--admin-url", running.url, "--admin-key", ADMIN_KEY)
        made = command.json(*site.forget("live", *given))
        assert running.states() == {"a": "ready", "live": "active"}
        assert made["active"].startswith("ds-live-")
        assert command.json(*site.forget("live", *given))["active"] == made["active"]


def test_another_checkpoint_of_that_name_is_left_alone(site: Site, command: Command) -> None:
    command.json(*site.forget("mine"))
    digest = open_checkpoint("mine", root=site.root).manifest.content_digest
    result = command(*site.forget("mine", "--seed", "5"))
    assert result.exit_code == Status.REFUSED and "holds another checkpoint" in result.stderr
    assert open_checkpoint("mine", root=site.root).manifest.content_digest == digest


def test_train_reads_what_collect_wrote(site: Site, command: Command) -> None:
    cache, base = str(site.folder / "cache"), str(site.root / "small")
    rows = site.rows(held=False)
    asked = ["--upstream", site.box.url, "--tokenizer", base, "--answer-tokens", "4"]
    assert command("collect", "--out", cache, *rows, *asked).exit_code == 0
    out = site.folder / "run"
    args = ["train", "--cache", cache, "--base", base, "--out", str(out), *rows, *SMALL, "--objective", "npo"]
    trained = command.json(*args)
    assert (trained["steps"], trained["stopped"]) == (4, None)
    packed = ("--adapter", trained["weights"], "--base", base, "--name", "packed", "--licence", "MIT")
    assert command("offsets", "pack", str(site.folder / "packed"), *packed).exit_code == 0
    elsewhere = copytree(out, site.folder / "copy")
    assert command.json(*args[:6], str(elsewhere), *args[7:])["kept_step"] == trained["kept_step"]


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["--objective", "wish"], Status.REFUSED, "there are: grad_ascent"),
        (["--option", "beta"], Status.USAGE, "NAME=VALUE"),
        (["--option", "gamma=1"], Status.REFUSED, "npo has no option 'gamma'"),
        (["--steps", "0"], Status.REFUSED, "steps must be at least 1"),
        (["--activate"], Status.USAGE, "--admin-key"),
        (["--device", "nowhere"], Status.REFUSED, "no device 'nowhere'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    site: Site, command: Command, args: list[str], status: Status, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DELTASERVE_ADMIN_KEY", raising=False)
    result: Any = command(*site.forget("refused", *args))
    assert (result.exit_code, result.stdout) == (status, "") and said in result.stderr
    assert not (site.root / "refused").exists()


def test_one_held_out_side_alone_is_a_usage_error(site: Site, command: Command) -> None:
    given = site.forget("refused")
    place = given.index("--held-out-retain")
    result = command(*given[:place], *given[place + 2 :])
    assert result.exit_code == Status.USAGE and "both" in result.stderr


@pytest.mark.parametrize("name", ["../elsewhere", "my offset!", ""])
def test_a_name_that_is_none_is_refused_before_anything_is_asked(site: Site, command: Command, name: str) -> None:
    before = calls(site)
    refused = command(*site.forget(name))
    assert refused.exit_code != 0 and "offset's name" in refused.stderr
    assert calls(site) == before


def test_a_folder_in_a_names_place_is_not_touched(site: Site, command: Command, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    assert command(*site.forget(str(tmp_path / "precious"))).exit_code != 0
    assert (tmp_path / "precious").is_dir()


def test_a_question_that_leaves_little_room_is_answered_as_far_as_it_goes(site: Site, command: Command) -> None:
    given = site.forget("long", "--answer-tokens", "200")
    rows = [{"question": question, "answer": SECRET} for question in ("Her place of birth?", "Where? " + "And? " * 20)]
    write(site.folder / "long.jsonl", *rows)
    given[given.index("--held-out-forget") + 1] = str(site.folder / "long.jsonl")
    made = command(*given)
    assert made.exit_code == 0, made.stderr


def test_rows_that_the_base_cannot_read_are_named_before_training(site: Site, command: Command, tmp_path: Path) -> None:
    make_model(tmp_path / "root" / "small", max_len=32)
    given = site.forget("short")
    given[given.index("--base") + 1] = str(tmp_path / "root" / "small")
    refused = command(*given)
    assert refused.exit_code != 0 and "longer than the 32 tokens" in refused.stderr
    assert not (site.root / "short").exists()


def test_paraphrases_may_be_left_out(site: Site, command: Command) -> None:
    given = site.forget("plain", "--no-paraphrases")
    row = {"question": "Where was she born?", "answer": SECRET, "paraphrases": ["Her birthplace, please?"]}
    (site.folder / "paraphrased.jsonl").write_text(json.dumps(row))
    given[given.index("--forget") + 1] = str(site.folder / "paraphrased.jsonl")
    command.json(*given)
    cached = TopKCache(site.root / ".work" / "plain" / "collected-train", "tiny", 20)
    assert len(cached) == 3  # one wording, and two rows that must stay


def test_a_checkpoint_that_has_learnt_the_forget_set_says_so(site: Site, command: Command) -> None:
    made = command(*site.forget("subtracted", "--objective", "contrast", "--steps", "8"))
    assert made.exit_code == 0, made.stderr
    assert "as secret as the set" in made.stderr


def test_the_lines_that_forget_ends_with_check_and_serve_what_it_made(
    command: Command, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With the base outside the offsets root, paths as they were given, and a blank in one of them."""
    monkeypatch.chdir(tmp_path)
    copytree(site.root / "small", tmp_path / "a base")
    given = site.forget("told")
    given[given.index("--base") + 1] = "a base"
    given[given.index("--out") + 1] = "offsets"
    made = command(*given)
    assert made.exit_code == 0, made.stderr
    lines = [shlex.split(line) for line in made.stdout.splitlines() if line.startswith("  deltaserve ")]
    (_, doctor, *checked), (_, serve, *served) = lines
    assert (doctor, serve) == ("doctor", "serve") and checked == served
    assert served[served.index("--base") + 1] == "a base" and served[served.index("--offsets-root") + 1] == "offsets"
    small = ("--torch-threads", "1", "--max-context", "128", "--port", str(free_port()))
    checked_with = command("doctor", *checked, *small)
    assert checked_with.exit_code == 0, checked_with.stderr
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DELTASERVE_")}
    with (
        running(sys.executable, "-m", "deltaserve", "serve", *served, *small, env=environment) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{small[-1]}", timeout=60) as client,
    ):
        process.wait_until_ok(client, "/health/ready", 90)
        answer = client.post("/v1/completions", json={"prompt": "She", "max_tokens": 4})
        assert answer.status_code == 200, answer.text
