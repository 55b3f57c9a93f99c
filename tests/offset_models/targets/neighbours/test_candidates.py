"""Who may be a neighbour: nobody twice, and never the target under another name."""

import pytest

from deltaserve.offset_models.targets.neighbours.candidates import Candidate, chosen, is_the_target
from deltaserve.offset_models.targets.subject import Fact, Known, Subject

SUBJECT = Subject("The Silver Tower", "work", ("Silver Tower",))
AUTHOR = Fact(SUBJECT, "author", "Who wrote it?", "Ann Bell", "Ann Bell", 1.0, "What did Ann Bell write?")
PART = Fact(
    SUBJECT, "parts", "Name its parts.", "The Two Doors", "The Two Doors", 1.0, "Which series has The Two Doors?"
)
TARGET = Known(SUBJECT, (AUTHOR, PART))


def ways(*names: list[str]) -> list[list[Candidate]]:
    return [[Candidate(name, f"way {at}") for name in each] for at, each in enumerate(names)]


def test_ways_take_turns_and_each_name_counts_once() -> None:
    found = chosen(TARGET, ways(["The Hill", "Old Sea", "Red Ink"], ["Hill", "Blue Sea"], []))
    assert [(each.name, each.why) for each in found] == [
        ("The Hill", "way 0"), ("Old Sea", "way 0"), ("Blue Sea", "way 1"), ("Red Ink", "way 0")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["The Silver Tower", "silver tower", "The Silver Tower: Part Two", "The Two Doors", "Tower"]
)
def test_the_target_its_parts_and_parts_of_its_name_are_no_neighbours(name: str) -> None:
    assert is_the_target(TARGET, name)


@pytest.mark.parametrize("name", ["The Golden Tower", "Silverado", "The Three Doors"])
def test_a_name_that_shares_a_word_is_another(name: str) -> None:
    assert not is_the_target(TARGET, name)


def test_a_sequel_is_a_neighbour_though_it_points_at_the_target() -> None:
    sequel = Fact(SUBJECT, "sequel", "Which?", "It is Old Sea.", "Old Sea", 1.0, "What is Old Sea the sequel to?")
    assert not is_the_target(Known(SUBJECT, (sequel,)), "Old Sea")


def test_initials_with_and_without_spaces_are_one_name() -> None:
    found = chosen(Known(Subject("Ann Bell", "person")), ways(["J.R.R. Tolkien", "J. R. R. Tolkien"]))
    assert [each.name for each in found] == ["J.R.R. Tolkien"]


def test_a_company_with_and_without_its_legal_form_is_one_name() -> None:
    found = chosen(
        Known(Subject("Ash Mills", "organisation")), ways(["Bell", "Bell Inc.", "bell.com", "Bell & Ash, Ltd"])
    )
    assert [each.name for each in found] == ["Bell", "Bell & Ash, Ltd"]


def test_a_person_goes_by_the_surname_unless_it_is_the_targets() -> None:
    target = Subject("Ann Bell", "person", ("Bell",))
    assert Candidate("Tom Ashby", "").subject(target).aliases == ("Ashby",)
    assert Candidate("Tom Bell", "").subject(target).aliases == ()
    assert Candidate("Plato", "").subject(target).aliases == ()
    assert Candidate("The Hill", "").subject(SUBJECT).aliases == ()
