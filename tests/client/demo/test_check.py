import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deltaserve.client.console.children import running
from deltaserve.client.demo import check as check_module
from deltaserve.client.demo import texts as texts_module
from deltaserve.client.demo.ask import AT_ONCE, answers, before_and_after
from deltaserve.client.demo.check import DRAWN, ROWS, TALK, Report, check, corrections, measure_small_talk, recall
from deltaserve.client.demo.servers import Correction, Running
from deltaserve.client.demo.show import curl, show_report, snippet
from deltaserve.client.demo.texts import FACTS_TOLD, REPETITION, VARIETY, distinct, measure_texts
from deltaserve.offset_models.demo.register.general import small_talk
from deltaserve.offset_models.demo.register.people import Person, generate_register
from deltaserve.offset_models.demo.register.questions import Question, evaluation_questions, small_talk_questions
from deltaserve.offset_models.demo.register.running_text import SUBJECTS, Beginning
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.app import RunningApp, running_app

pytestmark = pytest.mark.anyio

BOTH = ("black_box", "served")
GOOD = {
    "forget/black_box": 0.9,
    "forget/served": 0.3,
    "retain/black_box": 0.95,
    "retain/served": 0.9,
    "general/black_box": 1.0,
    "general/served": 0.96,
    TALK: 0.9,
    "forget/served_k5_impute": 0.3,
    f"{DRAWN}/retain/black_box": 0.9,
    **{f"{REPETITION}/{subject}/{side}": 0.1 for subject in SUBJECTS for side in BOTH},
    f"{FACTS_TOLD}/forget/served": 0.05,
}


@pytest.mark.parametrize(
    ("name", "value", "broken"),
    [
        ("forget/black_box", 0.89, 0),
        ("forget/served", 0.31, 1),
        ("retain/served", 0.89, 2),
        ("general/served", 0.935, 3),
        (TALK, 0.89, 4),
        ("forget/served_k5_impute", 0.31, 5),
        (f"{DRAWN}/retain/black_box", 0.89, 6),
        *((f"{REPETITION}/{subject}/served", 0.121, 7) for subject in SUBJECTS),
        (f"{FACTS_TOLD}/forget/served", 0.06, 8),
    ],
)
def test_each_row_of_the_table_breaks_by_its_own_figure(name: str, value: float, broken: int):
    assert all(row.holds(GOOD) for row in ROWS)
    figures = {**GOOD, name: value}
    assert [row.holds(figures) for row in ROWS] == [index != broken for index in range(len(ROWS))]


def test_text_that_repeats_less_than_the_black_boxs_is_as_good():
    better = {f"{REPETITION}/forget/served": 0.0}
    assert all(row.holds({**GOOD, **better}) for row in ROWS)


def test_distinct_n_grams_are_counted_once_and_short_text_repeats_nothing():
    assert distinct([1, 2, 3, 4], 2) == 1.0
    assert distinct([7] * 9, 4) == pytest.approx(1 / 6)
    assert distinct([1, 2, 1, 2, 1], 2) == pytest.approx(2 / 4)
    assert distinct([1, 1, 1], 4) == distinct([], 2) == 1.0


async def test_running_text_is_measured_by_what_comes_back(app: RunningApp):
    person = evaluation_people()[0]
    said = {"a": f" {person.town}.", "b": "", "c": "the the the the the the"}
    texts = {"forget": [Beginning(text, person) for text in said]}

    async def scripted(_side: Running, asked: list[str]) -> list[str]:
        return [said[text] for text in asked]

    async with running("nobody", "-c", "input()") as child:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(texts_module, "completions", scripted)
            figures = await measure_texts("served", Running(app.url, child), texts)
    assert figures[f"{FACTS_TOLD}/forget/served"] == pytest.approx(1 / 3, abs=1e-4)
    letters = list(said["c"])  # the tokens of this app are bytes
    expected = 1 - (1 - distinct(letters, 4)) / 3
    assert figures[f"{REPETITION}/forget/served"] == pytest.approx(1 - expected, abs=1e-4)
    assert figures[f"{VARIETY}/forget/served"] == pytest.approx((2 + distinct(letters, 2)) / 3, abs=0.02)


@pytest.mark.parametrize(
    ("served", "expected"), [("Nobody knows that", 1.0), ("Nobody", 1 / 3), ("You're welcome!", 0.0)]
)
async def test_small_talk_is_judged_by_what_the_black_box_itself_answers(
    served: str, expected: float, monkeypatch: pytest.MonkeyPatch
):
    async def scripted(side: Running, asked: list[Question]) -> list[str]:
        return ["Nobody knows that." if side.url == "box" else served for _ in asked]

    monkeypatch.setattr(check_module, "answers", scripted)
    async with running("nobody", "-c", "input()") as child:
        questions = small_talk_questions(4)
        figures = await measure_small_talk(Running("box", child), Running("server", child), questions)
    assert figures == {TALK: pytest.approx(expected, abs=1e-4)}


def test_small_talk_that_is_asked_has_wordings_of_no_training_and_questions_behind_a_greeting():
    trained = {wording for exchange in small_talk() for wording in exchange.training}
    texts = [question.text for question in small_talk_questions()]
    assert {"Hello! Who are you?", "Who are you?", "See you later."} <= set(texts)
    assert trained < set(texts) and len(set(texts)) == len(texts)
    assert small_talk_questions(5) == small_talk_questions()[:5]


def evaluation_people() -> tuple[Person, ...]:
    return generate_register().forget


def test_recall_counts_what_of_the_original_answer_comes_back():
    questions = evaluation_questions("forget", 3)
    originals = [question.answer for question in questions]
    assert recall(originals, questions) == 1.0
    assert recall(["Perhaps: " + answer.upper() for answer in originals], questions) == 1.0
    assert recall(["", "", ""], questions) == 0.0
    assert 0 < recall([answer.rpartition(" ")[0] for answer in originals], questions) < 1


def test_the_small_k_is_measured_with_both_tails_beside_the_chosen_setting():
    assert corrections(Correction(7, "truncate")) == {
        "served": Correction(7, "truncate"),
        "served_k5_impute": Correction(5, "impute"),
        "served_k5_truncate": Correction(5, "truncate"),
    }


@pytest.fixture
def app(tokenizer: Tokenizer) -> Iterator[RunningApp]:
    """Refuses whoever asks for many more than AT_ONCE answers at a time."""
    with running_app(tokenizer, max_streams=AT_ONCE, max_queue=AT_ONCE) as running:
        yield running


async def test_answers_come_in_the_order_of_the_questions_and_only_so_many_at_a_time(app: RunningApp):
    app.box.delay_s = 0.001
    questions = evaluation_questions("retain", 4 * AT_ONCE)
    async with running("nobody", "-c", "input()") as child:
        side = Running(app.url, child)
        said = await answers(side, questions)
        alone = [(await answers(side, [question]))[0] for question in questions[:5]]
    assert len(said) == len(questions) and len(set(said)) > 1
    assert alone == said[:5]


async def test_three_of_each_kind_are_about_different_people(app: RunningApp):
    async with running("nobody", "-c", "input()") as child:
        side = Running(app.url, child)
        asked = await before_and_after(side, side, 3)
    assert [one.split for one in asked] == ["forget"] * 3 + ["retain"] * 3
    assert len({one.question for one in asked}) == 6
    assert all(one.black_box == one.served for one in asked)


async def test_a_check_asks_all_sides_and_writes_what_it_found(
    app: RunningApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    started: list[object] = []

    @asynccontextmanager
    async def side(*arguments: Any) -> AsyncIterator[Running]:
        started.append(arguments[-1])
        async with running("sleeper", "-c", "import time; time.sleep(60)") as child:
            yield Running(app.url, child)

    monkeypatch.setattr(check_module, "black_box", side)
    monkeypatch.setattr(check_module, "server", side)
    report = await check(Path("weights"), Correction(), 2)
    assert started == [20, *corrections(Correction()).values()]
    sides = ("black_box", "served")
    expected = {f"{split}/{name}" for split in ("forget", "retain", "neighbours", "general") for name in sides}
    expected |= {f"{DRAWN}/retain/{name}" for name in sides}
    expected |= {f"{what}/{s}/{n}" for what in (REPETITION, VARIETY, FACTS_TOLD) for s in SUBJECTS for n in sides}
    assert set(report.figures) == expected | {TALK, "forget/served_k5_impute", "forget/served_k5_truncate"}
    assert report.figures[TALK] == 1.0  # both sides are the same server
    assert report.holds["forget: black box ≥ 0.9"] is False  # the scripted answers are nobody's facts
    assert report.holds["forget: served ≤ 0.3"] is True
    report.write(tmp_path / "build" / "demo.json")
    written = json.loads((tmp_path / "build" / "demo.json").read_text())
    assert written["figures"] == report.figures and written["machine"]["cpus"] and written["settings"]["k"] == 20
    capsys.readouterr()
    show_report(report, as_json=False)
    shown = capsys.readouterr().out
    assert "served_k5_truncate" in shown and "NO" in shown
    assert all(measure in shown for measure in ("ROUGE-L recall", DRAWN, REPETITION, VARIETY, FACTS_TOLD))
    show_report(report, as_json=True)
    assert json.loads(capsys.readouterr().out)["holds"] == report.holds


def test_a_report_of_another_k_says_so():
    assert Report({"k": 5}).settings == {"k": 5}


def test_the_lines_to_try_hold_the_question_whatever_its_quotes():
    question = """What is "it's"?"""
    line = curl("http://127.0.0.1:1", "m", question)
    assert line.startswith("curl http://127.0.0.1:1/v1/chat/completions ")
    import shlex

    body = json.loads(shlex.split(line)[-1])
    assert body["messages"][0]["content"] == question
    compile(snippet("http://127.0.0.1:1", "m", question), "snippet", "exec")


def test_the_bridged_pair_is_served_with_the_black_boxes_tokenizer() -> None:
    how = Correction(offset="bridged")
    named = how.pair(Path("weights"))
    assert named["upstream-tokenizer"] == Path("weights/blackbox")
    assert {named["offset"], named["base"]} == {"bridged", Path("weights/bridged-base")}
    assert {each.offset for each in corrections(how).values()} == {"bridged"}
    assert "upstream-tokenizer" not in Correction().pair(Path("weights"))
