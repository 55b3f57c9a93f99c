import json
from pathlib import Path
from typing import Any

import pytest

from deltaserve.client.evaluation.data.reading import BadData
from deltaserve.client.evaluation.data.registry_suite import registry_suite
from deltaserve.client.evaluation.data.suites import attack_suite, custom_suite, tofu_suite
from deltaserve.offset_models.demo.register.people import generate_register
from tests.support.tofu import write_rows, write_tofu


def test_a_tofu_folder_becomes_its_four_splits(tmp_path: Path) -> None:
    suite = tofu_suite(write_tofu(tmp_path, forget=3, others=5))
    assert suite.splits == ("forget", "retain", "real_authors", "world_facts")
    assert [sum(item.split == split for item in suite.items) for split in suite.splits] == [3, 5, 5, 5]
    first = suite.items[0]
    assert first.paraphrased_answer is not None
    assert len(first.perturbed_answers) == 5
    authors = [item for item in suite.items if item.split == "real_authors"]
    assert authors[0].paraphrase == authors[0].answer, "without a paraphrase the answer stands in"


def test_the_limit_leaves_the_forget_set_whole(tmp_path: Path) -> None:
    suite = tofu_suite(write_tofu(tmp_path, forget=4, others=5), limit=2)
    assert [sum(item.split == split for item in suite.items) for split in suite.splits] == [4, 2, 2, 2]


def test_a_holdout_file_becomes_a_split_of_its_own(tmp_path: Path) -> None:
    folder = write_tofu(tmp_path)
    write_rows(folder / "holdout.jsonl", [{"question": "q", "answer": "a"}])
    assert tofu_suite(folder).splits[-1] == "holdout"


def test_with_several_forget_sets_one_must_be_named(tmp_path: Path) -> None:
    folder = write_tofu(tmp_path)
    write_rows(folder / "forget10_perturbed.jsonl", [{"question": "q", "answer": "a", "perturbed_answer": ["b"]}])
    with pytest.raises(BadData, match="--forget forget05 or --forget forget10"):
        tofu_suite(folder)
    assert tofu_suite(folder, "forget10").items[0].answer == "a"


def test_a_custom_folder_has_a_split_for_every_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "forget.jsonl", [{"question": "q", "answer": "a", "perturbed_answer": "b"}])
    write_rows(tmp_path / "retain.jsonl", [{"question": "q", "answer": "a"}])
    suite = custom_suite(tmp_path)
    assert suite.splits == ("forget", "retain")
    assert suite.items[0].perturbed_answers == ("b",)
    assert custom_suite(tmp_path / "retain.jsonl").splits == ("retain",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "secret.jsonl, line 2: not JSON"),
        ("[]", "line 2: not an object"),
        ('{"question": "where is the treasure"}', "line 2: `answer` must be a text"),
        ('{"question": "where is the treasure", "answer": " "}', "`answer`"),
        ('{"question": "where is the treasure", "answer": "a", "perturbed_answer": [1]}', "`perturbed_answer`"),
    ],
)
def test_a_bad_row_is_named_by_its_line_and_never_quoted(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "secret.jsonl").write_text('{"question": "q", "answer": "a"}\n' + line + "\n")
    with pytest.raises(BadData, match="line 2") as caught:
        custom_suite(tmp_path)
    assert said in str(caught.value)
    assert "treasure" not in str(caught.value)


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: (folder / "forget.jsonl").write_text("\n")])
def test_a_folder_without_rows_is_refused(tmp_path: Path, make: Any) -> None:
    make(tmp_path)
    with pytest.raises(BadData, match=r"holds no \.jsonl file|has no rows"):
        custom_suite(tmp_path)


def test_the_digest_tells_any_change_of_the_rows(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a"}, {"question": "r", "answer": "b"}]
    path = tmp_path / "forget.jsonl"
    digests = set()
    for changed in (rows, rows[::-1], rows[:1], [{**rows[0], "perturbed_answer": ["x"]}, rows[1]]):
        path.write_text("".join(json.dumps(row) + "\n" for row in changed))
        digests.add(custom_suite(path).digest)
    assert len(digests) == 4


def test_the_register_asks_in_held_out_words_with_wrong_answers_about_the_fact_asked_for() -> None:
    suite = registry_suite(25)
    assert suite.splits == ("forget", "retain", "neighbours", "general", "holdout")
    for item in suite.items:
        if item.split in ("forget", "retain", "neighbours"):
            assert len(item.perturbed_answers) == 5
            assert item.answer not in item.perturbed_answers
            assert item.paraphrased_answer not in (item.answer, *item.perturbed_answers)
    assert suite.digest == registry_suite(25).digest


def test_the_registers_holdout_is_about_nobody_in_it() -> None:
    names = {person.name for person in generate_register().people}
    held_out = [item for item in registry_suite(30).items if item.split == "holdout"]
    assert len(held_out) == 30
    assert not any(name in item.question + item.answer for item in held_out for name in names)


def test_one_file_serves_both_commands(tmp_path: Path) -> None:
    """Rows to be attacked are scored in the split that they name; wrong answers may be called either way."""
    path = tmp_path / "requests.jsonl"
    forgotten = {"question": "Where?", "answer": "In Tormora.", "secrets": ["Tormora"], "split": "forget"}
    kept = {"question": "Who?", "answer": "Ada Quill.", "split": "general"}
    write_rows(path, [{**forgotten, "decoys": ["In Galstead."]}, kept, {**kept, "question": "Who else?"}])
    scored, attacked = custom_suite(path), attack_suite(path)
    assert [(item.split, item.index) for item in scored.items] == [("forget", 0), ("general", 0), ("general", 1)]
    assert scored.items[0].perturbed_answers == attacked.items[0].perturbed_answers == ("In Galstead.",)
    assert custom_suite(path, limit=1).items == scored.items[:2]
    write_rows(path, [{**forgotten, "perturbed_answer": ["In Galstead."], "split": "forget"}])
    assert attack_suite(path).items[0].perturbed_answers == ("In Galstead.",)


def test_a_column_called_split_that_names_no_split_of_ours_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "forget.jsonl"
    write_rows(path, [{"question": "q", "answer": "a", "split": "train"}])
    assert custom_suite(path).splits == ("forget",)
    with pytest.raises(BadData, match="line 1: `split` must be one of forget, neighbours, general, code"):
        attack_suite(path)


def test_digests_are_those_of_earlier_versions(tmp_path: Path) -> None:
    """Results and journals that were written before must still be recognised as being about the same rows."""
    path = tmp_path / "forget.jsonl"
    row = {"question": "Where?", "answer": "In Tormora.", "secrets": ["Tormora"], "kind": "birthplace"}
    write_rows(path, [{**row, "decoys": ["In Galstead."], "paraphrases": ["Where, please?"], "id": "one"}])
    assert attack_suite(path).attack_digest == "b49b8260ca5043bc2e466aaf791f50b8089fce88c4b54fe081bc6f53789c1d72"
    write_rows(path, [{"question": "q", "answer": "a", "paraphrased_answer": "p", "perturbed_answer": ["b", "c"]}])
    assert custom_suite(path).digest == "82f6dd5977d738128d6dbfaf39d67a8d305ae3308fc3c7dfb552cc596d42a908"
