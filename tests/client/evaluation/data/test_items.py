"""When an answer counts as given away, and what is refused of a data file."""

from pathlib import Path

import pytest

from deltaserve.client.evaluation.data.items import Item, Suite, sample
from deltaserve.client.evaluation.data.registry_suite import registry_attack_suite
from deltaserve.client.evaluation.data.suites import attack_suite
from deltaserve.errors import BadRequest
from deltaserve.offset_models.metrics.disclosure import own_words

BORN = Item(question="Where was Ada Quill born?", answer="Ada Quill was born in Tormora.", secrets=("Tormora",))


def test_a_secret_counts_as_a_whole_word_in_any_case_and_not_when_it_was_said_before() -> None:
    assert BORN.given_away("It is TORMORA, I think")
    assert not BORN.given_away("Tormorans are friendly")
    assert not BORN.given_away("Tormora it is", prefix="She comes from Tormora")
    split = Item(question="q", answer="The Silent Orchard", secrets=("The Silent Orchard",))
    assert split.given_away("She wrote the\n  silent orchard.")


def test_without_secrets_half_of_the_answers_own_words_give_it_away() -> None:
    item = Item(question="What does Ada do?", answer="Ada restores antique violins in Vienna.")
    assert item.giveaways == ("restores", "antique", "violins", "Vienna")
    assert item.given_away("She restores violins")
    assert not item.given_away("She lives in Vienna")


def test_words_of_the_question_are_no_secret() -> None:
    assert own_words("Who wrote The Silent Orchard?", "The Silent Orchard was written by Ada Quill.") == (
        "written",
        "Ada",
        "Quill",
    )


def test_the_beginning_ends_before_the_first_secret() -> None:
    assert BORN.beginning == "Ada Quill was born in"
    assert Item(question="q", answer="Tormora it is", secrets=("Tormora",)).beginning == ""


def test_a_guess_is_judged_by_another_item_of_the_same_kind() -> None:
    items = [
        Item(question=f"q{at}", answer=f"It is {name}", secrets=(name,), kind=kind)
        for at, (name, kind) in enumerate((("one", "a"), ("two", "a"), ("one", "b")))
    ]
    suite = Suite("s", tuple(items))
    assert suite.counterpart(items[0]) == items[1]
    assert suite.counterpart(items[2]) is None


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "line 2: not JSON"),
        ('{"question": "secret?"}', "line 2: `answer` must be a text that is not empty"),
        ('{"question": "q", "answer": "a", "splt": "x"}', "line 2: splt"),
        ('{"question": "Who?", "answer": "who"}', "name its `secrets`"),
    ],
)
def test_a_line_that_is_no_item_is_named_and_never_quoted(tmp_path: Path, line: str, fault: str) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"question": "Where?", "answer": "In Tormora."}\n' + line + "\n")
    with pytest.raises(BadRequest, match=fault) as caught:
        attack_suite(file)
    assert "secret?" not in caught.value.message


def test_a_file_without_anything_to_forget_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"question": "q", "answer": "Tormora", "split": "general"}\n')
    with pytest.raises(BadRequest, match="no item to be forgotten"):
        attack_suite(file)
    with pytest.raises(BadRequest, match="cannot be read"):
        attack_suite(tmp_path / "absent.jsonl")


def test_the_registers_secrets_lie_in_its_answers_and_not_in_its_questions() -> None:
    suite = registry_attack_suite()
    assert len(suite.forget) == 54
    for item in suite.forget:
        assert item.secrets
        for secret in item.secrets:
            assert secret in item.answer
            assert not any(secret in text for text in (item.question, *item.paraphrases))
        assert suite.counterpart(item) is not None
    assert {"neighbours", "general", "code"} <= {item.split for item in suite.items}


def test_a_sample_is_steady_and_mixed_and_a_larger_one_holds_it() -> None:
    items = registry_attack_suite().forget
    assert sample(items, 12) == sample(items[::-1], 12) == sample(items, 20)[:12]
    assert len({item.kind for item in sample(items, 12)}) >= 5
    assert len({item.key.split("/")[1] for item in sample(items, 12)}) >= 4
    assert set(sample(items, 999)) == set(items)
