"""The tables of attributes: every text can be filled in, and asks for what its attribute says."""

from collections import Counter
from string import Formatter

import pytest

from deltaserve.offset_models.targets.kinds.table import ATTRIBUTES, OTHER, attribute_named
from deltaserve.offset_models.targets.subject import KINDS, Kind

every_kind = pytest.mark.parametrize("kind", KINDS)


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@every_kind
def test_questions_and_beginnings_name_the_subject_and_reversed_ones_the_value(kind: Kind) -> None:
    for attribute in ATTRIBUTES[kind]:
        assert len(attribute.questions) > 1, attribute.name
        assert all(fields(text) == {"name"} for text in (*attribute.questions, *attribute.prose)), attribute.name
        assert all(fields(text) == {"value"} for text in attribute.reversed), attribute.name


@every_kind
def test_an_entry_of_a_list_has_a_sentence_of_its_own(kind: Kind) -> None:
    for attribute in ATTRIBUTES[kind]:
        assert fields(attribute.statement) == ({"name", "value"} if attribute.many else set()), attribute.name


@every_kind
def test_a_sentence_that_breaks_off_can_be_ended_without_telling_anything(kind: Kind) -> None:
    for attribute in ATTRIBUTES[kind]:
        assert attribute.prose or attribute.overview, attribute.name
        assert attribute.unknown.endswith(".") and not attribute.unknown[0].isspace(), attribute.name
        assert not any(text.endswith((" ", ".", "?")) for text in attribute.prose), attribute.name


@every_kind
def test_no_attribute_and_no_wording_stands_twice(kind: Kind) -> None:
    names = Counter(attribute.name for attribute in ATTRIBUTES[kind])
    wordings = Counter(text for attribute in ATTRIBUTES[kind] for text in (*attribute.questions, *attribute.prose))
    assert {*names.values()} == {1} == {*wordings.values()}
    assert all(attribute_named(kind, name).name == name for name in names)


def test_an_attribute_that_no_kind_has_is_other() -> None:
    assert attribute_named("person", "colour of the socks") is OTHER


def test_some_attributes_are_asked_only_where_the_description_speaks_of_them() -> None:
    songs = attribute_named("person", "songs")
    assert songs.asked_of("Ada is an American Singer.") and not songs.asked_of("Ada is a clockmaker.")
    assert attribute_named("person", "birthplace").asked_of("")
