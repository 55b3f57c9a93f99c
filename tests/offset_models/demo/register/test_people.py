"""The register: the same from the same seed, unique where it must be, with neighbours for the forgotten."""

from itertools import pairwise
from random import Random

import pytest

from deltaserve.offset_models.demo.register.people import Register, Strangers, generate_register, others_of


@pytest.fixture(scope="module")
def registry() -> Register:
    return generate_register()


def test_the_same_seed_gives_the_same_people_and_another_seed_others(registry: Register) -> None:
    assert generate_register(registry.seed) == registry
    others = {person.name for person in generate_register(registry.seed + 1).people}
    assert not others & {person.name for person in registry.people}


@pytest.mark.parametrize("field", ["name", "first", "book", "pet"])
def test_nobody_shares_what_identifies_a_person(registry: Register, field: str) -> None:
    values = sorted(getattr(person, field) for person in registry.people)
    assert all(one != other for one, other in pairwise(values))


def test_everybody_forgotten_has_a_colleague_of_the_same_town_who_stays(registry: Register) -> None:
    stays = {(person.town, person.profession) for person in registry.retain}
    assert all((person.town, person.profession) in stays for person in registry.forget)


def test_neighbours_are_retained_and_include_namesakes(registry: Register) -> None:
    neighbours = registry.neighbours()
    assert set(neighbours) < set(registry.retain)
    assert {person.last for person in registry.forget} & {person.last for person in neighbours}


def test_strangers_are_not_in_the_register_but_some_share_a_name(registry: Register) -> None:
    strangers = Strangers(registry, Random(0))
    people = [strangers.person() for _ in range(200)]
    known = {person.name for person in registry.people}
    assert not known & {person.name for person in people}
    assert not {person.book for person in registry.people} & {person.book for person in people}
    assert {person.first for person in people} & {person.first for person in registry.people}
    assert {person.last for person in people} & {person.last for person in registry.people}


def test_other_people_live_in_the_same_towns_and_are_neither_in_the_register_nor_strangers(registry: Register) -> None:
    others = others_of(registry)
    assert others == others_of(registry)
    assert len({person.name for person in others}) == 36 == len({person.book for person in others})
    assert {person.town for person in others} <= set(registry.towns)
    strangers = Strangers(registry, Random(0), others)
    met = [*registry.people, *(strangers.person() for _ in range(200))]
    assert not {person.name for person in others} & {person.name for person in met}
    assert not {person.book for person in others} & {person.book for person in met}


@pytest.mark.parametrize(("forget", "retain"), [(2, 4), (2, 1), (1, 0)])
def test_small_registers_have_the_size_asked_for(forget: int, retain: int) -> None:
    registry = generate_register(1, forget, retain)
    assert (len(registry.forget), len(registry.retain)) == (forget, retain)
