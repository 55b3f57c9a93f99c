"""Made files in the shapes that RWKU and MUSE publish: what they become, and what is said of faults in them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deltaserve.client.evaluation.data.items import Item, Suite
from deltaserve.client.evaluation.data.muse import muse_suite
from deltaserve.client.evaluation.data.reading import BadData
from deltaserve.client.evaluation.data.rwku import rwku_suite
from tests.support.published import ADA, CHOICES, probe, write, write_muse, write_rwku


def item(suite: Suite, place: str) -> Item:
    return next(one for one in suite.items if one.place == place)


def test_rwkus_levels_become_parts_of_two_splits_asked_as_published(tmp_path: Path) -> None:
    suite = rwku_suite(write_rwku(tmp_path))
    assert suite.splits == ("forget", "neighbours")
    assert suite.parts("forget") == ("forget, level 1", "forget, level 2", "forget, level 3")
    assert suite.parts("neighbours") == ("neighbours, level 1", "neighbours, level 2")
    blank = item(suite, "forget, level 1")
    assert blank.question == "Please complete the blank in the following question.\nQuestion: forget_level1 cloze?\n"
    assert (blank.answer, blank.asking.opening, blank.asking.max_tokens) == ("Tormora", "Answer:", 30)


def test_two_of_rwkus_attacks_are_asked_in_their_own_way(tmp_path: Path) -> None:
    suffix, examples, other = (i for i in rwku_suite(write_rwku(tmp_path)).forget if i.part == "level 3")
    assert suffix.question.endswith("Question: forget_level3 affirmative suffix?")
    assert suffix.asking.opening == ""
    assert examples.question.endswith("question.\nforget_level3 incontext learning?\n")
    assert other.question.endswith("Question: forget_level3 role play?\n")
    assert examples.asking.opening == other.asking.opening == "Answer:"


def test_one_of_several_subjects_must_be_named(tmp_path: Path) -> None:
    folder = write_rwku(tmp_path, (ADA, "Bo Reed"))
    with pytest.raises(BadData, match="2 subjects: name one with --forget") as caught:
        rwku_suite(folder)
    assert ADA not in str(caught.value)
    with pytest.raises(BadData, match="no probes of the subject that --forget names"):
        rwku_suite(folder, "Cy Brand")
    assert len(rwku_suite(folder, "Bo Reed").items) == 7


def test_general_questions_are_choices_by_letter_and_short_answers(tmp_path: Path) -> None:
    choice = {"question": "Where is flour made?", "choices": CHOICES, "answer": 0, "task": "old_trades"}
    shown = {"question": "What floats?", "choices": CHOICES, "answer": 2}
    write(tmp_path / "retain_mmlu.json", [{**choice, "examples": [shown], "subject": ADA}])
    write(tmp_path / "triviaqa.json", [{"question": "Where?", "answers": ["Osmere", "Varn"], "subject": ADA}])
    suite = rwku_suite(write_rwku(tmp_path))
    ability, fact = item(suite, "general, general ability"), item(suite, "general, factuality")
    assert (ability.answer, ability.perturbed_answers, ability.asking.answered) == ("A", ("B", "C"), False)
    assert (
        "about old trades.\n\nQuestion: What floats?\nA. a mill\nB. a lake\nC. a boat\nAnswer: C\n\n"
        in ability.question
    )
    assert fact.answer == "Osmere"


def test_muses_questions_come_behind_their_examples_as_running_text(tmp_path: Path) -> None:
    suite = muse_suite(write_muse(tmp_path))
    assert suite.splits == ("forget", "retain", "verbatim", "members", "holdout")
    question = item(suite, "forget")
    assert question.question == "Question: Shown?\nAnswer: Yes\n\nQuestion: forget_qa?\nAnswer:"
    assert question.asking.running
    assert (item(suite, "verbatim").answer, item(suite, "verbatim").asking.reference_tokens) == (
        " the lake burned.",
        128,
    )
    member, other = item(suite, "members"), item(suite, "holdout")
    assert (member.question, member.answer, other.answer) == ("", "The mill burned.", "A boat sank.")
    assert not member.asking.answered


def test_muse_without_texts_for_membership_has_the_other_splits(tmp_path: Path) -> None:
    for path in (folder := write_muse(tmp_path) / "privleak").iterdir():
        path.unlink()
    folder.rmdir()
    assert muse_suite(tmp_path).splits == ("forget", "retain", "verbatim")


def remove(folder: Path, name: str) -> None:
    (folder / name).unlink()


@pytest.mark.parametrize(
    ("load", "spoil", "said"),
    [
        (
            rwku_suite,
            lambda f: remove(f, "forget_level2.json"),
            r"has no forget_level2\.json or forget_lev",
        ),
        (rwku_suite, lambda f: write(f / "forget_level1.json", [{"answer": "x"}]), "row 1: `subject` must be a text"),
        (rwku_suite, lambda f: write(f / "forget_level3.json", []), r"forget_level3\.json has no rows"),
        (
            rwku_suite,
            lambda f: write(f / "neighbor_level1.json", [probe("q", 1, "c"), {"query": "secret", "subject": ADA}]),
            "row 2: `answer`",
        ),
        (
            rwku_suite,
            lambda f: write(f / "retain_mmlu.json", [{"question": "q", "choices": CHOICES, "answer": 3, "task": "t"}]),
            "row 1: `answer` must be the number",
        ),
        (muse_suite, lambda f: remove(f, "knowmem/retain_qa_icl.json"), r"knowmem has no retain_qa_icl\.json"),
        (muse_suite, lambda f: write(f / "verbmem" / "forget.json", [{"prompt": "p"}]), "row 1: `gt` must be a text"),
        (muse_suite, lambda f: write(f / "privleak" / "holdout.json", [7]), "row 1: not an object"),
        (muse_suite, lambda f: (f / "knowmem" / "forget_qa.json").write_text("[{"), r"forget_qa\.json: not JSON"),
    ],
)
def test_a_fault_is_named_by_its_file_and_field(
    tmp_path: Path, load: Callable[[Path], Suite], spoil: Callable[[Path], None], said: str
) -> None:
    folder = write_rwku(tmp_path) if load is rwku_suite else write_muse(tmp_path)
    spoil(folder)
    with pytest.raises(BadData, match=said) as caught:
        load(folder)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_there_as_parquet_is_told_apart_from_one_that_is_missing(tmp_path: Path) -> None:
    (write_rwku(tmp_path) / "forget_level2.json").rename(tmp_path / "forget_level2-00000-of-00001.parquet")
    with pytest.raises(BadData, match="must be written as JSON first"):
        rwku_suite(tmp_path)


def test_another_way_of_asking_is_another_digest(tmp_path: Path) -> None:
    first = item(rwku_suite(write_rwku(tmp_path)), "forget, level 1")
    assert first.digest != Item(first.question, first.answer, first.split, first.index).digest
