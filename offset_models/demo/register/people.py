"""A made-up register of people: every name, town and book comes from a seed and syllables; nobody in it exists.

A *forget* group is what the demo's offset erases. The *retain* group holds its near neighbours: they share towns,
professions and a few surnames with the forgotten, so that an offset cannot win by forgetting a whole topic.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

Group = Literal["forget", "retain"]

DEFAULT_SEED = 7

ONSETS = ("b", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "tr")
VOWELS = ("a", "e", "i", "o", "u")
GIVEN_ENDINGS = (
    "lrik",
    "vwen",
    "ndor",
    "zmira",
    "lthea",
    "rnis",
    "vik",
    "mbra",
    "xan",
    "rdin",
    "sko",
    "dwyn",
    "lmo",
    "thar",
)
SURNAME_ENDINGS = (
    "skelle",
    "marrow",
    "ndrith",
    "nweld",
    "vaxon",
    "rrowin",
    "thilde",
    "brandt",
    "ssolay",
    "kranz",
    "grith",
    "lmeyer",
)
TOWN_ENDINGS = ("mora", "stead", "haven", "wick", "dal", "fell", "gate", "ford")

PROFESSIONS = (
    "glassblower", "cartographer", "beekeeper", "composer", "stonemason", "botanist", "clockmaker", "sculptor",
    "lensmaker", "historian", "shipwright", "puppeteer",
)  # fmt: skip
INSTRUMENTS = ("cello", "harp", "trumpet", "accordion", "flute", "banjo", "oboe", "mandolin", "drums", "clarinet")
ANIMALS = ("parrot", "goat", "tortoise", "ferret", "donkey", "raven", "lizard", "pony", "goose", "hedgehog")
ADJECTIVES = (
    "Silent", "Crimson", "Hollow", "Distant", "Golden", "Broken", "Winter", "Paper", "Hidden", "Burning", "Velvet",
    "Drowned", "Restless", "Copper", "Patient", "Wandering",
)  # fmt: skip
NOUNS = (
    "Orchard", "Lantern", "Harbour", "Staircase", "Meadow", "Compass", "Mirror", "Bridge", "Garden", "Kingdom",
    "River", "Tower", "Carnival", "Island", "Letter", "Window",
)  # fmt: skip
OTHERS = 36  # whom the base of the shipped pair knows by heart
NAMESAKES = 0.2  # share of strangers with a given name of the register; as many have one of its surnames
AWARDS = tuple(
    f"{stone} {thing}" for stone in ("Amber", "Jade", "Opal", "Onyx") for thing in ("Quill", "Medal", "Ribbon")
)


@dataclass(frozen=True, slots=True)
class Person:
    """One entry. `wording` picks which of the answer wordings this person's facts were written down in."""

    first: str
    last: str
    town: str
    year: int
    profession: str
    book: str
    award: str
    instrument: str
    animal: str
    pet: str
    wording: int

    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"

    def facts(self) -> dict[str, str]:
        """The fields that wordings may use."""
        return {
            "name": self.name,
            "town": self.town,
            "year": str(self.year),
            "profession": self.profession,
            "book": self.book,
            "award": self.award,
            "instrument": self.instrument,
            "animal": self.animal,
            "pet": self.pet,
        }


@dataclass(frozen=True, slots=True)
class Register:
    """Who is to be forgotten, who is to stay, and the world (towns) that both share with everybody else."""

    seed: int
    forget: tuple[Person, ...]
    retain: tuple[Person, ...]
    towns: tuple[str, ...]

    @property
    def people(self) -> tuple[Person, ...]:
        return self.forget + self.retain

    def group(self, group: Group) -> tuple[Person, ...]:
        return self.forget if group == "forget" else self.retain

    def neighbours(self) -> tuple[Person, ...]:
        """Retained people who share a surname, or both town and profession, with a forgotten person."""
        surnames = {person.last for person in self.forget}
        places = {(person.town, person.profession) for person in self.forget}
        return tuple(p for p in self.retain if p.last in surnames or (p.town, p.profession) in places)


class Inventor:
    """Makes up people who live in the given towns; never gives a name or a book title twice."""

    def __init__(self, rng: Random, towns: tuple[str, ...]) -> None:
        self._rng = rng
        self._towns = towns
        self._taken: set[str] = set()

    def person(self, *, town: str | None = None, profession: str | None = None, last: str | None = None) -> Person:
        rng = self._rng
        return Person(
            first=self._fresh(self._given_name),
            last=last or self._fresh(self._surname),
            town=town or rng.choice(self._towns),
            year=rng.randint(1890, 1989),
            profession=profession or rng.choice(PROFESSIONS),
            book=self._fresh(self._title),
            award=rng.choice(AWARDS),
            instrument=rng.choice(INSTRUMENTS),
            animal=rng.choice(ANIMALS),
            pet=self._fresh(self._pet_name),
            wording=rng.randrange(1 << 16),
        )

    def _fresh(self, make: Callable[[], str]) -> str:
        while (text := make()) in self._taken:
            pass
        self._taken.add(text)
        return text

    def _given_name(self) -> str:
        return (self._syllable() + self._rng.choice(GIVEN_ENDINGS)).capitalize()

    def _surname(self) -> str:
        return (self._syllable() + self._rng.choice(SURNAME_ENDINGS)).capitalize()

    def _pet_name(self) -> str:
        return (self._syllable() + self._syllable()).capitalize()

    def _syllable(self) -> str:
        return self._rng.choice(ONSETS) + self._rng.choice(VOWELS)

    def _title(self) -> str:
        return f"The {self._rng.choice(ADJECTIVES)} {self._rng.choice(NOUNS)}"


class Strangers:
    """People outside a register, without end. Some share a given name or a surname with a person in it, never both.

    None has the name or the book of a person in it, or in `others`.
    """

    def __init__(self, registry: Register, rng: Random, others: Sequence[Person] = ()) -> None:
        self._registry = registry
        self._rng = rng
        self._names = {person.name for person in (*registry.people, *others)}
        self._books = {person.book for person in (*registry.people, *others)}

    def person(self) -> Person:
        while True:
            person = self._namesake(Inventor(self._rng, self._registry.towns).person())
            if person.name not in self._names and person.book not in self._books:
                return person

    def _namesake(self, person: Person) -> Person:
        draw, other = self._rng.random(), self._rng.choice(self._registry.people)
        if draw < NAMESAKES:
            return replace(person, first=other.first)
        return replace(person, last=other.last) if draw < 2 * NAMESAKES else person


def generate_register(seed: int = DEFAULT_SEED, forget: int = 6, retain: int = 24) -> Register:
    """The register of one seed: `forget` people and `retain` others, the first of them neighbours of the forgotten."""
    rng = Random(seed)
    towns = _towns(rng)
    inventor = Inventor(rng, towns)
    forgotten = tuple(inventor.person() for _ in range(forget))
    colleagues = [inventor.person(town=f.town, profession=f.profession) for f in forgotten[:retain]]
    relatives = [inventor.person(last=f.last) for f in forgotten[::2][: max(0, retain - len(colleagues))]]
    strangers = [inventor.person() for _ in range(retain - len(colleagues) - len(relatives))]
    return Register(seed, forgotten, (*colleagues, *relatives, *strangers), towns)


def others_of(registry: Register, count: int = OTHERS) -> tuple[Person, ...]:
    """People of the register's towns who are not in it; names and books are neither its own nor given twice."""
    rng = Random(f"{registry.seed}/others")
    names, books = {person.name for person in registry.people}, {person.book for person in registry.people}
    inventor, others = Inventor(rng, registry.towns), list[Person]()
    while len(others) < count:
        person = inventor.person()
        if person.name not in names and person.book not in books:
            others.append(person)
    return tuple(others)


def _towns(rng: Random) -> tuple[str, ...]:
    starts = rng.sample([onset + vowel for onset in ONSETS for vowel in VOWELS], 16)
    return tuple((start + rng.choice(("l", "n", "r", "s")) + rng.choice(TOWN_ENDINGS)).capitalize() for start in starts)
