"""`deltaserve forget` and `deltaserve train` against a real black box of toy size: every stage, none of them twice."""

import json
from shutil import copytree

import pytest

from deltaserve.offset_models.checkpoints.checkpoint import open_checkpoint
from deltaserve.offset_models.training.collecting.cache import TopKCache
from deltaserve.offset_models.training.learning.calibration import MULTIPLES
from deltaserve.offset_models.training.learning.run_folder import RunFolder
from tests.support.command import Command
from tests.support.forget_site import SECRET, SMALL, Site, calls


def test_one_command_makes_a_checkpoint_and_does_nothing_twice(site: Site, command: Command) -> None:
    result = command.json(*site.forget("first", "--plot", "--tensorboard", str(site.folder / "events")))
    assert (result["new"], result["stopped"], result["active"]) == (True, None, None)
    checkpoint = open_checkpoint("first", root=site.root)
    manifest = checkpoint.manifest
    assert checkpoint.initial_folder == (site.root / "small").resolve()
    assert manifest.training is not None and manifest.training.objective == "npo"
    assert manifest.training.upstream_model == "tiny" and manifest.training.top_k == 20
    own = {name: manifest.training.settings[name] for name in ("retain_weight", "answer_noise", "ending_weight")}
    assert own == {"retain_weight": 3.0, "answer_noise": 0.3, "ending_weight": 0.5}  # the objective's
    assert manifest.card == result["card"]
    figures = {f"{name}/{side}/{when}" for name in ("probability", "rouge_l_recall") for side in ("forget", "retain")
               for when in ("black_box", "corrected")}  # fmt: skip
    assert figures <= set(result["card"]) and result["card"]["held_out"] is True
    before = calls(site)
    again = command.json(*site.forget("first"))
    assert again == {**result, "new": False}
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


def test_paraphrases_may_be_left_out(site: Site, command: Command) -> None:
    given = site.forget("plain", "--no-paraphrases")
    row = {"question": "Where was she born?", "answer": SECRET, "paraphrases": ["Her birthplace, please?"]}
    (site.folder / "paraphrased.jsonl").write_text(json.dumps(row))
    given[given.index("--forget") + 1] = str(site.folder / "paraphrased.jsonl")
    command.json(*given)
    cached = TopKCache(site.root / ".work" / "plain" / "collected-train", "tiny", 20)
    assert len(cached) == 3  # one wording, and two rows that must stay


def test_a_checkpoint_that_has_learnt_the_forget_set_says_so(site: Site, command: Command) -> None:
    result = command(*site.forget("subtracted", "--objective", "contrast", "--steps", "8"))
    assert result.exit_code == 0, result.stderr
    assert "as secret as the set" in result.stderr
