"""Names are read out of whatever a black box writes when it is asked for a list."""

import pytest

from deltaserve.offset_models.targets.neighbours.naming import is_made_up, names_in
from deltaserve.offset_models.targets.subject import Kind


@pytest.mark.parametrize(
    ("kind", "answer", "names"),
    [
        ("person", "1. J.K. Rowling\n2. George Orwell", ["J.K. Rowling", "George Orwell"]),
        ("person", "Sure! They are:\n\n1. **Ann Bell** - a poet\n2. Tom Ash, author of Ash", ["Ann Bell", "Tom Ash"]),
        ("person", "Ann Bell\nTom Ash\nAnn Bell", ["Ann Bell", "Tom Ash"]),
        ("person", "Some are: Ann Bell, Tom Ash, and Jan van Eyck.", ["Ann Bell", "Tom Ash", "Jan van Eyck"]),
        ("person", "Sammy Davis Jr.\nAnn Bell (1890-1937)", ["Sammy Davis Jr.", "Ann Bell"]),
        ("person", "Ann Bell", ["Ann Bell"]),
        ("work", '"1984" by George Orwell\nGold, the Sea and the Wind', ["1984", "Gold, the Sea and the Wind"]),
        ("work", '1. Ann Bell\'s "Gold"\n2. Tom Ash\' "The Sea"', ["Gold", "The Sea"]),
        ("product", "- iPhone: a phone\n- Galaxy S", ["iPhone", "Galaxy S"]),
        ("person", "I'm not sure about that.", []),
        ("person", "As an AI model, I do not know any people, and I cannot say.", []),
        ("person", "Ann Bell was born in 1961. She lives in a house, and writes.", []),
        ("person", "", []),
    ],
)  # fmt: skip
def test_names_are_read_without_what_is_said_beside_them(kind: Kind, answer: str, names: list[str]) -> None:
    assert names_in(answer, kind) == names


def test_the_last_name_of_an_answer_that_was_cut_is_left_out() -> None:
    assert names_in("1. Ann Bell\n2. Tom Ash\n3. William Faul", "person", cut=True) == ["Ann Bell", "Tom Ash"]


def test_a_list_of_names_that_stand_for_anybody_is_made_up() -> None:
    assert is_made_up(["John Smith", "Jane Doe", "Ann Bell"])
    assert not is_made_up(["James Brown", "Ann Bell", "Jane Austen"])
