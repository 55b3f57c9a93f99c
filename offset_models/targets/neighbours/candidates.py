"""Names that may be neighbours: who they are not, and the order in which they are looked at."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from deltaserve.offset_models.metrics.disclosure import says
from deltaserve.offset_models.metrics.words import folded, words
from deltaserve.offset_models.targets.concerning import pointing_values
from deltaserve.offset_models.targets.neighbours.naming import without_legal_form
from deltaserve.offset_models.targets.subject import Known, Subject


@dataclass(frozen=True, slots=True)
class Candidate:
    """A name, and how it was found: words for people."""

    name: str
    why: str

    def subject(self, target: Subject) -> Subject:
        """Of the target's kind. A person goes by the surname too, unless that is one of the target's words."""
        surname = self.name.split()[-1]
        by_surname = target.kind == "person" and surname != self.name and len(surname) > 2
        taken = surname.casefold() in {word for name in target.names for word in folded(name).split()}
        return Subject(self.name, target.kind, (surname,) if by_surname and not taken else ())


def chosen(target: Known, ways: Iterable[Sequence[Candidate]]) -> list[Candidate]:
    """Of each way the first, then of each the second, and so on; each name once, none that is the target's."""
    kept: dict[tuple[str, ...], Candidate] = {}
    for candidate in _in_turn(ways):
        key = _key(candidate.name)
        if key and key not in kept and not is_the_target(target, candidate.name):
            kept[key] = candidate
    return list(kept.values())


def is_the_target(target: Known, name: str) -> bool:
    """Whether it is one of its names, holds one or is a part of one, or is a value that points at it: a pen name."""
    own = [*target.subject.names, *pointing_values(target)]
    named = target.subject.named_in(name) if len(target.subject.name) > 3 else folded(name) == folded(own[0])
    return named or any(says(each, name) or _key(each) == _key(name) for each in own)


def _key(name: str) -> tuple[str, ...]:
    """ "The Hobbit" and "Hobbit", "J. K. Rowling" and "J.K. Rowling", "Apple" and "Apple Inc." are one."""
    plain = without_legal_form(name).removesuffix(".com")
    key = tuple(words(plain.replace(".", ". ")))
    return key[1:] if len(key) > 1 and key[0] in ("the", "a", "an") else key


def _in_turn(ways: Iterable[Sequence[Candidate]]) -> Iterator[Candidate]:
    for row in zip_longest(*ways):
        yield from (candidate for candidate in row if candidate is not None)
