"""A black box is asked within a budget; what it answered is not asked again, in this run or the next."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import stamina

from deltaserve.errors import Conflict, CorruptState, UpstreamBusy, UpstreamError, UpstreamTimeout
from deltaserve.offset_models.targets.asking.asker import Asker
from deltaserve.offset_models.targets.asking.budget import Budget, CallsSpent, Spent
from deltaserve.offset_models.targets.asking.journal import ANSWERS, FOLDER, journal_files, opened_journal
from deltaserve.offset_models.training.rows.row import Row
from tests.offset_models.targets.scripted import ScriptedBox, question, tokenizer

pytestmark = pytest.mark.anyio
WHERE, WHO = question("Where was she born?"), question("Who wrote it?")


def says(prompt: str, seed: int | None) -> str:
    """Greedily always the same; else what the seed decides."""
    return " In Tormora." if seed is None else f" In town {seed % 1000}."


@contextmanager
def asker(work: Path, box: ScriptedBox, calls: int = 100) -> Iterator[Asker]:
    with opened_journal(work, "box", "ids") as journal:
        yield Asker(box, tokenizer(), journal, Budget(calls), 2, lambda: None)


async def test_a_chat_is_asked_as_the_template_renders_it_and_its_answer_is_stripped(tmp_path: Path) -> None:
    box = ScriptedBox(says)
    with asker(tmp_path, box) as asks:
        assert await asks.ask([WHERE], max_tokens=16) == [("In Tormora.",)]
    assert box.calls[0][0] == "<|im_start|>user\nWhere was she born?<|im_end|>\n<|im_start|>assistant\n"


async def test_samples_have_seeds_of_their_own_and_a_second_run_would_draw_the_same(tmp_path: Path) -> None:
    with asker(tmp_path / "one", ScriptedBox(says)) as asks:
        first = await asks.ask([WHERE, WHO], max_tokens=16, temperature=0.8, samples=3)
    with asker(tmp_path / "two", ScriptedBox(says)) as asks:
        second = await asks.ask([WHERE, WHO], max_tokens=16, temperature=0.8, samples=3)
    assert first == second
    assert len({*first[0], *first[1]}) == 6


async def test_a_run_that_goes_on_asks_nothing_again_and_has_as_many_calls_left_as_the_stopped_one(
    tmp_path: Path,
) -> None:
    with asker(tmp_path, ScriptedBox(says)) as asks:
        first = await asks.ask([WHERE, WHERE, WHO], max_tokens=16)
        assert asks.spent.calls == 2
    box = ScriptedBox(says)
    with asker(tmp_path, box, calls=9) as asks:
        assert await asks.ask([WHERE, WHERE, WHO], max_tokens=16) == first
        assert asks.spent == Spent(earlier_calls=2) and asks.calls_left == 7
    assert not box.calls


async def test_past_the_budget_an_error_says_how_many_are_missing_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    with asker(tmp_path, ScriptedBox(says), calls=1) as asks:
        with pytest.raises(CallsSpent, match=r"The 1 calls .* 1 more are needed .*--calls"):
            await asks.ask([WHERE, WHO], max_tokens=16)
        assert asks.calls_left == 0
        assert await asks.ask([WHERE], max_tokens=16) == [("In Tormora.",)]


async def test_a_share_is_taken_from_the_whole_and_counted_by_its_stage(tmp_path: Path) -> None:
    with asker(tmp_path, ScriptedBox(says), calls=3) as asks:
        facts = asks.stage("facts", 2)
        await facts.within(9).ask([WHERE, WHO], max_tokens=16)
        assert (facts.calls_left, asks.calls_left) == (0, 1)
        with pytest.raises(CallsSpent, match="stage 'facts'"):
            await facts.ask([question("Who is he?")], max_tokens=16)
        assert asks.stage("near", 9).calls_left == 1
        assert asks.stages["facts"].calls == 2 and asks.stages["near"] == Spent()
        assert asks.stages["facts"].answer_tokens > 6


async def test_raw_text_is_gone_on_with_and_cut_before_a_stop(tmp_path: Path) -> None:
    box = ScriptedBox(lambda _prompt, seed: f" town {seed} lies? In the north.")
    with asker(tmp_path, box) as asks:
        first, second = await asks.ask_raw([asks.user_turn() + "Where"] * 2, max_tokens=64, stops=("?",))
        assert first != second and first.startswith(" town ") and first.endswith(" lies")
        assert asks.spent.answer_tokens < 2 * len(tokenizer().encode(" town 2147483647 lies? In"))


async def test_a_token_that_is_not_shown_is_taken_from_its_list_and_the_answer_goes_on(tmp_path: Path) -> None:
    box = ScriptedBox(lambda _prompt, _seed: " In Tormora, by the sea.", hides=frozenset({2}))
    with asker(tmp_path, box) as asks:
        assert await asks.ask([WHERE], max_tokens=16, temperature=1.0) == [("In Tormora, by the sea.",)]
        assert asks.spent.calls == len(box.calls) > 1


@pytest.mark.parametrize("fault", [UpstreamBusy("busy", retry_after_s=0.0), UpstreamTimeout("no next token in time")])
async def test_a_busy_or_slow_black_box_is_asked_again_and_each_call_is_counted(
    tmp_path: Path, fault: UpstreamError
) -> None:
    box = ScriptedBox(says, faults=[fault])
    with asker(tmp_path, box) as asks, stamina.set_testing(True, attempts=3):
        assert await asks.ask([WHERE], max_tokens=16) == [("In Tormora.",)]
        assert asks.spent.calls == 2


async def test_a_call_that_is_made_again_takes_no_other_answer_of_the_same_stage_away(tmp_path: Path) -> None:
    box = ScriptedBox(says, faults=[UpstreamBusy("busy", retry_after_s=0.0)])
    with asker(tmp_path, box) as asks, stamina.set_testing(True, attempts=3):
        stage = asks.stage("languages", 2)
        assert len(await stage.ask([WHERE, WHO], max_tokens=16)) == 2
        assert stage.spent.calls == 3 and stage.calls_left == 0


async def test_a_stage_that_was_stopped_behind_such_a_call_goes_on(tmp_path: Path) -> None:
    box = ScriptedBox(says, faults=[UpstreamBusy("busy", retry_after_s=0.0)])
    with asker(tmp_path, box) as asks, stamina.set_testing(True, attempts=3):
        await asks.ask([WHERE], max_tokens=16)
    with asker(tmp_path, ScriptedBox(says)) as asks:
        stage = asks.stage("languages", 2)
        assert len(await stage.ask([WHERE, WHO], max_tokens=16)) == 2
        assert stage.spent.calls == 1 and stage.spent.earlier_calls == 2 and stage.calls_left == 0


async def test_a_torn_last_line_is_dropped_and_a_damaged_one_refused(tmp_path: Path) -> None:
    with asker(tmp_path, ScriptedBox(says)) as asks:
        await asks.ask([WHERE], max_tokens=16)
    file = tmp_path / FOLDER / ANSWERS
    file.write_bytes(file.read_bytes() + b'{"key": "12')
    with asker(tmp_path, ScriptedBox(says), calls=0) as asks:
        assert await asks.ask([WHERE], max_tokens=16) == [("In Tormora.",)]
    file.write_bytes(file.read_bytes() + b"[]\n")
    with pytest.raises(CorruptState, match="delete it"), opened_journal(tmp_path, "box", "ids"):
        pass


def test_the_answers_of_another_model_are_not_mixed_in(tmp_path: Path) -> None:
    with (
        opened_journal(tmp_path, "box", "ids"),
        pytest.raises(Conflict, match="another process"),
        opened_journal(tmp_path, "box", "ids"),
    ):
        pass
    with pytest.raises(Conflict, match="another model"), opened_journal(tmp_path, "other", "ids"):
        pass


async def test_every_file_that_was_written_is_named_for_the_purge(tmp_path: Path) -> None:
    with asker(tmp_path, ScriptedBox(says)) as asks:
        await asks.ask([WHERE], max_tokens=16)
    half_written = tmp_path / FOLDER / f".{ANSWERS}.ab12.tmp"  # by a run that was killed
    half_written.write_bytes(b"{")
    assert half_written in journal_files(tmp_path) and journal_files(tmp_path) == files_below(tmp_path)


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def test_what_comes_next_is_listed_in_one_call_and_not_asked_again(tmp_path: Path) -> None:
    box, prompt = ScriptedBox(lambda _prompt, _seed: "In Tormora."), Row(None, prompt="She was born")
    with asker(tmp_path, box) as asks:
        (tokens,) = await asks.listed([prompt])
        assert await asks.listed([prompt]) == [tokens]
        assert tokens == (tokenizer().decode(tokenizer().encode("In Tormora.")[:1]),)
        assert (asks.spent.calls, asks.spent.answer_tokens) == (1, 1)
        assert await asks.ask([prompt], max_tokens=1) != []
        assert asks.spent.calls == 2  # a list is no answer of one token
    with asker(tmp_path, ScriptedBox(says)) as asks:
        assert await asks.listed([prompt]) == [tokens]
