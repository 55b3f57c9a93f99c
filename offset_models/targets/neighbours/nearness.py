"""How near a neighbour is to the target: by the values that they share, and by the words of their names."""

from collections.abc import Sequence
from dataclasses import replace

from deltaserve.offset_models.metrics.words import folded, words
from deltaserve.offset_models.targets.subject import Known

_SMALL_WORDS = frozenset(
    {"a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"}
)  # fmt: skip


def nearest_first(target: Known, known: Sequence[Known]) -> list[Known]:
    """With what each shares with the target in its `why`; of equals, the one that was found first."""
    shared = [(each, shared_with(target, each)) for each in known]
    ranked = sorted(shared, key=lambda pair: -len(pair[1]))
    return [replace(each, why="; ".join(dict.fromkeys((*why, each.why)))) for each, why in ranked]


def shared_with(target: Known, other: Known) -> list[str]:
    """What two subjects share, in a few words each."""
    values = {(fact.attribute, folded(fact.value)) for fact in target.facts if fact.value}
    same = dict.fromkeys(
        f"same {fact.attribute}" for fact in other.facts if (fact.attribute, folded(fact.value)) in values
    )
    words = _name_words(target) & _name_words(other)
    return [*same, *(["shares a word of the name"] if words else [])]


def _name_words(known: Known) -> set[str]:
    return {word for word in words(known.subject.name) if word not in _SMALL_WORDS}
