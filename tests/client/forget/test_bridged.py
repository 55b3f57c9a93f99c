"""`deltaserve forget` for a base whose tokenizer is not the black box's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deltaserve.client.address import Address
from deltaserve.client.evaluation import short_attack
from deltaserve.offset_models.bridge import tables
from deltaserve.offset_models.bridge.vocabulary import ByteVocabulary
from deltaserve.offset_models.checkpoints.checkpoint import open_checkpoint
from deltaserve.offset_models.demo.pipeline.pretrain import Shape, new_model, save_model
from deltaserve.offset_models.demo.pipeline.tokenizer import save_tokenizer, train_tokenizer
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.bridging.aligned import Aligned, Aligner
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import TopK
from tests.support.command import Command
from tests.support.forget_site import SECRET, SMALL, Site, calls, write

PAGES = ("She was born in the old mill by the sea.", "Who wrote the book? I'm not sure.", "And the town? The mill.")


@pytest.fixture(scope="module")
def other(site: Site) -> Path:
    """A base that writes bytes, and a few pairs of them."""
    folder, tokenizer = site.root / "other", train_tokenizer(PAGES, 300)
    save_tokenizer(tokenizer, folder, 512)
    save_model(new_model(Shape(hidden=32, layers=2, heads=2, feed_forward=64, context=512), tokenizer, 0), folder)
    return folder


def request(site: Site, other: Path, name: str, *more: str) -> list[str]:
    given = site.forget(name, "--upstream-tokenizer", str(site.folder / "big"), *more)
    given[given.index("--base") + 1] = str(other)
    return given


@pytest.mark.parametrize("objective", ["idk", "npo"])
def test_a_base_of_another_tokenizer_learns_from_the_black_boxes_lists(
    site: Site, command: Command, other: Path, objective: str
) -> None:
    name = f"bridged-{objective}"
    asked = request(site, other, name, "--objective", objective, "--steps", "24")
    result = command.json(*asked)
    manifest = open_checkpoint(name, root=site.root).manifest
    assert manifest.tokenizer.ids == Tokenizer.load(other).fingerprint.ids
    assert manifest.training is not None and manifest.strength == 1.0  # as trained
    assert manifest.training.upstream_tokenizer == Tokenizer.load(site.folder / "big").fingerprint.ids
    card = result["card"]
    assert card["probability/forget/corrected"] < card["probability/forget/black_box"]
    assert "rouge_l_recall/forget/corrected" in card  # asked through a bridge
    assert f"--upstream-tokenizer {site.folder / 'big'}" in result["serve"]
    before = calls(site)
    assert command.json(*asked) == {**result, "new": False}
    assert calls(site) == before


MARKED = "She was born<|im_start|> in the mill."  # for the black box's tokenizer a special token


def marked(site: Site, other: Path, name: str) -> list[str]:
    """A request whose second and third row cannot be read by the base."""
    (site.folder / "marked").mkdir(exist_ok=True)
    rows = site.folder / "marked" / "marked.jsonl"
    question = "Where was she born?"
    write(rows, *({"question": question, "answer": answer} for answer in (SECRET, MARKED, f"{MARKED} Once more.")))
    given = request(site, other, name)
    given[given.index("--forget") + 1] = str(rows)
    return given


def test_a_row_with_special_tokens_in_its_answer_is_refused_by_its_line_before_anything_is_asked(
    site: Site, command: Command, other: Path
) -> None:
    given = marked(site, other, "marked")
    before = calls(site)
    refused = command(*given)
    assert refused.exit_code != 0
    assert "marked.jsonl, line 2: its answer holds a special token" in refused.stderr
    assert "--skip-bad" in refused.stderr
    assert "line 1" not in refused.stderr
    assert "mill" not in refused.stderr
    assert calls(site) == before


def test_with_skip_bad_such_rows_are_left_out_named_and_counted(site: Site, command: Command, other: Path) -> None:
    skipping = command(*marked(site, other, "skipped"), "--skip-bad")
    assert skipping.exit_code == 0, skipping.stderr
    assert "Left out: marked.jsonl, line 2: its answer holds a special token" in skipping.stderr
    assert "Left out: 2 rows." in skipping.stderr
    assert (site.root / "skipped" / "offset.json").exists()


def test_train_leaves_out_what_was_collected_and_the_base_cannot_read(
    site: Site, command: Command, other: Path
) -> None:
    marked(site, other, "collected")
    rows = ["--forget", str(site.folder / "marked" / "marked.jsonl"), "--retain", str(site.folder / "retain.jsonl")]
    big, cache = str(site.folder / "big"), str(site.folder / "marked-cache")
    asked = ["--upstream", site.box.url, "--tokenizer", big, "--answer-tokens", "4"]
    assert command("collect", "--out", cache, *rows, *asked).exit_code == 0
    where = ["--cache", cache, "--base", str(other), "--out", str(site.folder / "marked-run")]
    train = ["train", *where, "--upstream-tokenizer", big, *rows, *SMALL]
    refused = command(*train)
    assert refused.exit_code != 0
    assert "marked.jsonl, line 2: its answer holds a special token" in refused.stderr
    trained = command(*train, "--skip-bad")
    assert trained.exit_code in (0, 1), trained.stderr  # 1: nothing worth keeping came of so few steps
    assert "Left out: 2 rows." in trained.stderr
    assert (site.folder / "marked-run" / "metrics.jsonl").exists()


@pytest.fixture
def aligned(monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """The rows that are aligned anew, those that are read broken aside."""
    samples: list[Sample] = []
    align = Aligner.align

    def counted(self: Aligner, sample: Sample, top: TopK | None) -> Aligned:
        if not sample.read_ids:
            samples.append(sample)
        return align(self, sample, top)

    monkeypatch.setattr(Aligner, "align", counted)
    return samples


def test_what_was_aligned_is_kept_beside_the_lists_for_further_runs_until_it_is_purged(
    site: Site, command: Command, other: Path, aligned: list[Sample]
) -> None:
    work = site.root / ".work" / "kept"
    assert command(*request(site, other, "kept")).exit_code == 0
    assert aligned
    aligned.clear()
    further = command(*request(site, other, "further", "--steps", "6", "--work", str(work)))
    assert further.exit_code == 0, further.stderr
    assert not aligned
    collected = work / "collected-train"
    assert list(collected.glob("aligned-*/*.safetensors"))
    assert command("collect", "--out", str(collected), "--purge", "--yes").exit_code == 0
    assert not list(collected.glob("aligned-*"))


def test_the_tables_between_both_tokenizers_are_built_once_for_training_and_what_judges_it(
    site: Site, command: Command, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds: list[int] = []
    build = tables.built

    def counted(box: ByteVocabulary, pair: ByteVocabulary) -> tables.IntervalTables:
        builds.append(len(pair.ids))
        return build(box, pair)

    monkeypatch.setattr(tables, "built", counted)
    assert command(*request(site, other, "tabled")).exit_code == 0
    assert len(builds) == 1
    (file,) = tables.table_files(site.root / ".work" / "tabled")
    assert file.stat().st_size


@pytest.mark.anyio
async def test_a_server_that_is_attacked_begins_with_the_tables_of_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "bridge-0123.safetensors"
    table.write_bytes(b"a table")
    begun: list[bytes] = []

    @asynccontextmanager
    async def running(_what: str, *arguments: str, **_: object) -> AsyncIterator[None]:
        (state,) = (text.partition("=")[2] for text in arguments if text.startswith("--state-folder="))
        begun.append((Path(state) / table.name).read_bytes())
        yield

    async def ready(*_: object) -> None: ...

    monkeypatch.setattr(short_attack, "running", running)
    monkeypatch.setattr(short_attack, "until_ready", ready)
    serving = short_attack.Serving(tmp_path / "root" / "one", tmp_path / "base", Address("http://127.0.0.1:1"))
    async with short_attack._served(serving, tmp_path):
        assert begun == [b"a table"]


def test_without_the_black_boxes_tokenizer_it_is_refused(site: Site, command: Command, other: Path) -> None:
    given = site.forget("guessed")
    given[given.index("--base") + 1] = str(other)
    refused = command(*given)
    assert refused.exit_code != 0
    assert "--upstream-tokenizer" in refused.stderr


def test_train_reads_what_was_collected_with_the_black_boxes_tokenizer(
    site: Site, command: Command, other: Path
) -> None:
    cache, big = str(site.folder / "bridged-cache"), str(site.folder / "big")
    rows = site.rows(held=False)
    asked = ["--upstream", site.box.url, "--tokenizer", big, "--answer-tokens", "4"]
    assert command("collect", "--out", cache, *rows, *asked).exit_code == 0
    where = ["--cache", cache, "--base", str(other), "--out", str(site.folder / "bridged-run")]
    trained = command.json("train", *where, "--upstream-tokenizer", big, *rows, *SMALL, "--steps", "16")
    assert (trained["steps"], trained["stopped"]) == (16, None)
    weights = [file.read_bytes() for file in Path(trained["weights"]).rglob("*") if file.is_file()]
    assert weights and not any(SECRET.encode() in content for content in weights)
