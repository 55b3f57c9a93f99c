"""collect, as people run it: the estimate, what is kept, a kill in the middle, bad rows, and the purge."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deltaserve.client.console.terminal import Status
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.collecting.cache import SHARD, TopKCache
from deltaserve.offset_models.training.collecting.collected import read_collected
from deltaserve.offset_models.training.collecting.folder import leftovers, writing_in
from deltaserve.offset_models.training.collecting.unchanged import ASKED
from deltaserve.offset_models.training.rows.dataset import Data
from deltaserve.offset_models.training.rows.loading import read_refusals, read_rows
from deltaserve.offset_models.training.rows.row import Row
from tests.support.blackbox import NAME, BlackBoxProcess, blackbox, forward, make_model
from tests.support.command import Command
from tests.support.process import forked

NOWHERE = "http://127.0.0.1:9"
TOWNS = ("Velmora", "Jilmora", "Dassolay")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("collect") / "model")


@pytest.fixture(scope="module")
def upstream(model: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(model) as process:
        yield process


def rows_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def question(number: int) -> dict[str, Any]:
    town = TOWNS[number % 3]
    return {"question": f"Where was clockmaker {number} born?", "answer": f"Clockmaker {number} was born in {town}."}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    forget = rows_file(tmp_path / "f.jsonl", [question(n) | {"paraphrases": [f"Birthplace of {n}?"]} for n in range(3)])
    retain = rows_file(tmp_path / "r.jsonl", [question(9), {"question": "Who wrote the book?"}])
    return forget, retain


def options(files: tuple[Path, Path], model: Path, url: str, out: str = "out") -> tuple[str, ...]:
    forget, retain = map(str, files)
    sides = ("--forget", forget, "--retain", retain, "--answer-tokens", "8", "--k", "5")
    return ("collect", *sides, "--upstream", url, "--tokenizer", str(model), "--out", out)


def test_a_dry_run_tells_the_cost_and_asks_for_nothing_of_the_text(
    command: Command, files: tuple[Path, Path], model: Path, upstream: BlackBoxProcess
) -> None:
    before = upstream.stats()
    told = command.json(*options(files, model, upstream.url), "--dry-run")
    probing = upstream.stats()["requests"] - before["requests"]
    assert (told["samples"], told["cached"], told["unanswered"]) == (
        14,
        0,
        1,
    )  # 3 rows × 2 wordings × 2 answers, 2 kept
    assert told["calls"] == 14 and told["method"] == "prompt_logprobs"
    assert not Path("out").exists()
    before = upstream.stats()
    done = command(*options(files, model, upstream.url))
    assert done.exit_code == 0, done.stderr
    after = upstream.stats()
    assert after["requests"] - before["requests"] - probing == told["calls"]
    assert after["prompt_tokens"] - before["prompt_tokens"] >= told["prompt_tokens"]


def test_what_training_reads_is_what_the_black_box_said(
    command: Command, files: tuple[Path, Path], model: Path, upstream: BlackBoxProcess
) -> None:
    assert command(*options(files, model, upstream.url)).exit_code == 0
    tokenizer = Tokenizer.load(model)
    data = Data(read_rows(files[0]), read_rows(files[1], answered=False), read_refusals())
    found = read_collected(Path("out"), data, tokenizer)
    assert [len(side) for side in (found.forget, found.refused, found.retain)] == [6, 6, 2]
    for (told, _), (refusal, _) in zip(found.forget, found.refused, strict=True):
        assert told.prompt_ids == refusal.prompt_ids and told.answer_ids != refusal.answer_ids
        assert (told.answer_ids[-1],) == (refusal.answer_ids[-1],) == tokenizer.answer_end
    sample, top = found.retain[1]  # the black box's own answer: greedy
    rows = forward(model, sample.ids).numpy()[len(sample.prompt_ids) - 1 : -1]
    assert rows.argmax(1).tolist() == list(sample.answer_ids) == top.ids[:, 0].tolist()
    gaps = np.take_along_axis(rows, top.ids, 1) - top.logprobs
    np.testing.assert_allclose(gaps, np.repeat(gaps[:, :1], gaps.shape[1], 1), atol=1e-3)  # padding rows' mass


def test_a_second_run_asks_nobody_and_new_rows_alone_are_asked_for(
    command: Command, files: tuple[Path, Path], model: Path, upstream: BlackBoxProcess
) -> None:
    assert command(*options(files, model, upstream.url)).exit_code == 0
    again = command(*options(files, model, NOWHERE))
    assert again.exit_code == 0 and "nothing to ask" in again.stderr
    rows_file(files[1], [question(9), {"question": "Who wrote the book?"}, question(10)])
    told = command.json(*options(files, model, upstream.url), "--dry-run")
    assert (told["samples"], told["cached"], told["calls"]) == (15, 14, 1 + ASKED)
    away = command(*options(files, model, NOWHERE))
    assert away.exit_code == Status.UNREACHABLE and "Traceback" not in away.stderr


def test_two_may_read_one_folder_and_one_may_collect_into_it(
    command: Command, files: tuple[Path, Path], model: Path, upstream: BlackBoxProcess
) -> None:
    asked = options(files, model, upstream.url)
    assert command(*asked).exit_code == 0
    with writing_in(Path("out")):
        assert command(*asked).exit_code == 0
        rows_file(files[1], [question(9), {"question": "Who wrote the book?"}, question(10)])
        refused = command(*asked)
    assert refused.exit_code == Status.FAILED and "another process" in refused.stderr
    assert command(*asked).exit_code == 0


def test_other_weights_under_the_same_name_are_noticed_and_nothing_of_theirs_is_kept(
    command: Command, files: tuple[Path, Path], model: Path, upstream: BlackBoxProcess, tmp_path: Path
) -> None:
    assert command(*options(files, model, upstream.url)).exit_code == 0
    shards = {path: path.read_bytes() for path in Path("out").rglob("*.*")}
    rows_file(files[1], [question(9), {"question": "Who wrote the book?"}, question(10)])
    with blackbox(make_model(tmp_path / "other", seed=1)) as other:
        refused = command(*options(files, model, other.url))
    assert refused.exit_code == Status.FAILED and "another --out" in refused.stderr
    assert {path: path.read_bytes() for path in Path("out").rglob("*.*")} == shards
    assert command(*options(files, model, upstream.url)).exit_code == 0


def test_a_run_killed_in_the_middle_goes_on_and_ends_with_the_same_cache(
    command: Command, tmp_path: Path, model: Path, upstream: BlackBoxProcess
) -> None:
    many = rows_file(tmp_path / "f.jsonl", [question(n) for n in range(60)])
    few = rows_file(tmp_path / "r.jsonl", [question(1000)])
    with blackbox(model, "--first-token-ms", "60") as slow:
        asked = (*options((many, few), model, slow.url), "--forget-answers", "reference", "--concurrency", "2")
        with forked("deltaserve", *asked) as process:
            wait_for(tmp_path / "out" / f"{NAME}-k5" / "000000.safetensors")
            process.kill()
        told = command.json(*asked, "--dry-run")
        assert SHARD <= told["cached"] < 61 and told["calls"] == 61 - told["cached"] + ASKED
        before = slow.stats()["requests"]
        assert command(*asked).exit_code == 0
        assert slow.stats()["requests"] - before < told["calls"] + 30  # and the probe's
    whole = options((many, few), model, upstream.url, "whole")
    assert command(*whole, "--forget-answers", "reference").exit_code == 0
    one, other = (TopKCache(tmp_path / folder, NAME, 5)._rows for folder in ("out", "whole"))
    assert len(one) == 61 and one.keys() == other.keys()
    for digest, top in one.items():
        np.testing.assert_array_equal(top.ids, other[digest].ids)
        np.testing.assert_allclose(top.logprobs, other[digest].logprobs, atol=1e-4)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, "nothing was written"
        time.sleep(0.02)


def test_bad_rows_stop_the_run_before_anybody_is_asked_unless_they_may_be_left_out(
    command: Command, files: tuple[Path, Path], model: Path, upstream: BlackBoxProcess
) -> None:
    rows_file(files[0], [question(0), {"question": "x"}, {"text": 1}, question(1) | {"answer": "z" * 3000}])
    stopped = command(*options(files, model, NOWHERE))
    assert stopped.exit_code == Status.REFUSED
    assert "line 2: it has no answer; line 3: text is not a string" in stopped.stderr
    too_long = command(*options(files, model, upstream.url), "--skip-bad")
    assert too_long.exit_code == 0, too_long.stderr
    assert "f.jsonl, line 2" in too_long.stderr and "f.jsonl, line 4" in too_long.stderr
    assert "zzz" not in too_long.stderr
    assert command.json(*options(files, model, NOWHERE), "--skip-bad")["samples"] == 4


def test_another_tokenizer_than_the_black_boxs_is_refused(
    command: Command, files: tuple[Path, Path], model: Path, upstream: BlackBoxProcess, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    source = json.loads((model / "tokenizer.json").read_text())
    source["model"]["merges"] = source["model"]["merges"][:5]
    (other / "tokenizer.json").write_text(json.dumps(source))
    (other / "tokenizer_config.json").write_bytes((model / "tokenizer_config.json").read_bytes())
    refused = command(*options(files, other, upstream.url))
    assert refused.exit_code == Status.REFUSED and "tokenizer is not the pair's" in refused.stderr
    assert command(*options(files, model, upstream.url)).exit_code == 0
    mixed = command(*options(files, other, upstream.url))
    assert mixed.exit_code != 0 and "another tokenizer" in mixed.stderr


@pytest.mark.parametrize(
    ("missing", "named"), [("--forget", "--forget"), ("--retain", "--generic"), ("--upstream", "--upstream")]
)
def test_what_is_missing_is_named(
    command: Command, files: tuple[Path, Path], model: Path, missing: str, named: str
) -> None:
    given = list(options(files, model, NOWHERE))
    at = given.index(missing)
    result = command(*given[:at], *given[at + 2 :])
    assert result.exit_code == Status.USAGE and named in result.stderr


def test_after_a_purge_nothing_of_the_forget_set_is_left_but_digests(
    command: Command, files: tuple[Path, Path], model: Path, upstream: BlackBoxProcess
) -> None:
    assert command(*options(files, model, upstream.url)).exit_code == 0
    rows, refusing = read_rows(files[0]), ("collect", "--purge", "--out", "out", "--forget", str(files[0]))
    unsure = command(*refusing)
    assert unsure.exit_code == Status.USAGE and "--yes" in unsure.stderr and files[0].exists()
    assert command(*refusing, "--yes").exit_code == 0
    assert not files[0].exists() and files[1].exists()
    assert {path.name: path.stat().st_size > 0 for path in Path("out").rglob("*")} == {
        "collection.json": True,
        "lock": False,
    }
    record = json.loads(Path("out/collection.json").read_text())
    assert record["purged_at"] and len(record["forget"]["digest"]) == 64
    left = Path("out/collection.json").read_text()
    assert not any(row.completion and row.completion in left for row in rows)


def test_a_purge_says_where_text_is_left_and_deletes_nothing_that_is_no_collection(
    command: Command, files: tuple[Path, Path], model: Path, upstream: BlackBoxProcess, tmp_path: Path
) -> None:
    (tmp_path / "papers").mkdir()
    nothing = command("collect", "--purge", "--yes", "--out", "papers", "--forget", str(files[0]))
    assert nothing.exit_code != 0 and files[0].exists() and "no collection" in nothing.stderr
    assert command(*options(files, model, upstream.url)).exit_code == 0
    Path("out/notes.txt").write_text("As we know, " + question(1)["answer"])
    left = command("collect", "--purge", "--yes", "--out", "out", "--forget", str(files[0]))
    assert left.exit_code == Status.FAILED and "notes.txt" in left.stderr


def purge(command: Command, *forget: Path) -> Any:
    return command(
        "collect", "--purge", "--yes", "--out", "out", *(part for f in forget for part in ("--forget", str(f)))
    )


@pytest.fixture
def collected(command: Command, files: tuple[Path, Path], model: Path, upstream: BlackBoxProcess) -> Path:
    """The forget file of a whole collection."""
    assert command(*options(files, model, upstream.url)).exit_code == 0
    return files[0]


def test_a_dry_run_purges_nothing(command: Command, collected: Path) -> None:
    refused = command("collect", "--purge", "--dry-run", "--yes", "--out", "out", "--forget", str(collected))
    assert refused.exit_code == Status.USAGE and collected.exists() and any(Path("out").rglob("*.safetensors"))


def test_a_purge_leaves_what_is_not_its_own(command: Command, collected: Path) -> None:
    for name in ("my-results-k5/table.csv", "my-results-k5/more/notes.txt", f"{NAME}-k5/mine.txt"):
        Path("out", name).parent.mkdir(parents=True, exist_ok=True)
        Path("out", name).write_text("kept")
    assert purge(command, collected).exit_code == 0
    kept = {path.name for path in Path("out").rglob("*") if path.is_file()}
    assert kept == {"table.csv", "notes.txt", "mine.txt", "collection.json", "lock"}


def test_the_text_of_a_linked_forget_file_is_deleted_and_naming_it_twice_does_no_harm(
    command: Command, collected: Path, tmp_path: Path
) -> None:
    real = tmp_path / "real.jsonl"
    collected.rename(real)
    collected.symlink_to(real)
    assert purge(command, collected, collected, real).exit_code == 0
    assert not real.exists() and not collected.is_symlink()


def test_what_cannot_be_deleted_is_named_and_the_record_does_not_say_purged(
    command: Command, collected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def held(path: Path, missing_ok: bool = False) -> None:
        if path.name == collected.name:
            raise PermissionError
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", held)
    failed = purge(command, collected)
    assert failed.exit_code == Status.FAILED and collected.name in failed.stderr
    assert not any(Path("out").rglob("*.safetensors"))
    record = json.loads(Path("out/collection.json").read_text())
    assert record["purged_at"] is None and not record["complete"]


@pytest.mark.parametrize("ascii_only", [True, False])
def test_text_is_found_however_json_has_written_it(tmp_path: Path, ascii_only: bool) -> None:
    row = Row(completion='Zoë said "never\nagain" to me.')
    (tmp_path / "left.jsonl").write_text(json.dumps({"answer": row.completion}, ensure_ascii=ascii_only))
    assert leftovers(tmp_path, [row]) == [tmp_path / "left.jsonl"]


def test_a_text_cannot_be_answered_with_a_refusal(
    command: Command, files: tuple[Path, Path], model: Path, upstream: BlackBoxProcess
) -> None:
    rows_file(files[0], [{"text": "It was a bright cold day in April."}])
    refused = command(*options(files, model, upstream.url))
    assert refused.exit_code != 0 and "line 1" in refused.stderr and "--forget-answers reference" in refused.stderr
    assert command(*options(files, model, upstream.url), "--forget-answers", "reference").exit_code == 0


def test_a_key_of_the_environment_goes_to_its_own_host_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from deltaserve.client.console.shared import upstream_address

    monkeypatch.setenv("DELTASERVE_UPSTREAM_URL", "http://box:1/v1")
    monkeypatch.setenv("DELTASERVE_UPSTREAM_KEY", "secret")
    assert upstream_address(None, None).key == upstream_address("http://box:1", None).key == "secret"
    assert upstream_address("http://elsewhere:1", None).key is None
    assert upstream_address("http://elsewhere:1", "other").key == "other"
