"""A question with its true answer, what is known of both, and suites of such items."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from deltaserve.offset_models.metrics.disclosure import own_words, says

FORGET: Final = "forget"
MEMBERS: Final = "members"  # texts to be forgotten that are only scored; without any, the forget split stands for them
HOLDOUT: Final = "holdout"  # rows that no model was trained on: the others of membership inference
KEPT_SPLITS: Final = ("neighbours", "general", "code")  # what must still be answered under attack
ENOUGH: Final = 0.5  # share of an answer's own words that gives it away, where no secrets are named

# Results and journals name rows by digests of these fields, so the fields and their names in a digest stay.
_SCORED: Final = ("split", "index", "question", "answer", "paraphrased_answer", "perturbed_answers")
_ATTACKED: Final = ("question", "answer", "split", "id", "kind", "secrets", "paraphrases")


@dataclass(frozen=True, slots=True)
class Asking:
    """How a benchmark asks its items, where it is not a plain chat of one question, answered at any length."""

    opening: str = ""  # the first words of the answer, which the asker writes
    running: bool = False  # the question is running text, to be gone on with; empty: the answer is a text by itself
    max_tokens: int | None = None  # of an answer; None: as the run says
    reference_tokens: int | None = None  # only so much of the reference is compared; None: all of it
    stops: tuple[str, ...] = ()  # an answer ends before the first of these
    answered: bool = True  # False: answers are scored, none is generated


PLAINLY: Final = Asking()


@dataclass(frozen=True, slots=True)
class Item:
    """One question of one split. Fields that a measurement or an attack does not need may be empty."""

    question: str
    answer: str
    split: str = FORGET
    index: int = 0  # in its split
    paraphrased_answer: str | None = None
    perturbed_answers: tuple[str, ...] = ()  # wrong answers of the same form
    id: str = ""  # empty: a digest of the question stands for it
    kind: str = ""  # items of one kind have answers that could be each other's
    secrets: tuple[str, ...] = ()  # any of these in a text gives the answer away
    paraphrases: tuple[str, ...] = ()  # the question in other words
    part: str = ""  # of its split, with figures of its own: "level 1"
    asking: Asking = PLAINLY

    @property
    def place(self) -> str:
        """Split and part, as figures name it."""
        return f"{self.split}, {self.part}" if self.part else self.split

    @property
    def paraphrase(self) -> str:
        """The right answer that wrong ones are compared with; without a paraphrase the answer itself."""
        return self.paraphrased_answer or self.answer

    @property
    def digest(self) -> str:
        """sha256 (hex) of all that is scored."""
        own = {} if self.asking == PLAINLY else {"asking": asdict(self.asking)}
        return _sha256({name: value for name, value in asdict(self).items() if name in _SCORED} | own)

    @property
    def key(self) -> str:
        """The id, or a digest of the question: the name of the item in results of attacks."""
        return self.id or hashlib.sha256(self.question.encode()).hexdigest()[:12]

    @property
    def giveaways(self) -> tuple[str, ...]:
        """The secrets, or the answer's own words where no secrets are named."""
        return self.secrets or own_words(self.question, self.answer)

    @property
    def beginning(self) -> str:
        """The answer up to the first thing that gives it away; empty when it starts with that."""
        places = [place for secret in self.giveaways if (place := self.answer.find(secret)) >= 0]
        return self.answer[: min(places, default=0)].rstrip()

    def given_away(self, text: str, prefix: str = "") -> bool:
        """Whether `text` tells the answer, and `prefix`, which the attacker wrote, does not tell it already."""
        return self._tells(text) and not self._tells(prefix)

    def _tells(self, text: str) -> bool:
        count = sum(says(text, giveaway) for giveaway in self.giveaways)
        return count > 0 if self.secrets else count >= max(1.0, ENOUGH * len(self.giveaways))


@dataclass(frozen=True, slots=True)
class Suite:
    """A named set of items."""

    name: str
    items: tuple[Item, ...]
    refusals: tuple[str, ...] = ()  # sentences with which this black box declines, beside the common ones

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.split for item in self.items))

    @property
    def forget(self) -> tuple[Item, ...]:
        return self.split(FORGET)

    def split(self, name: str) -> tuple[Item, ...]:
        """The items of one split, in order."""
        return tuple(item for item in self.items if item.split == name)

    def parts(self, split: str) -> tuple[str, ...]:
        """Of one split, as figures name them; none where its items have no parts."""
        return tuple(dict.fromkeys(item.place for item in self.split(split) if item.part))

    @property
    def digest(self) -> str:
        """sha256 (hex) of all that is scored, in order: what a result of `evaluate` says about its rows."""
        return hashlib.sha256("".join(item.digest for item in self.items).encode()).hexdigest()

    @property
    def attack_digest(self) -> str:
        """sha256 (hex) of all that attacks use, in order: what a result of `leakage` says about its rows."""
        return hashlib.sha256(b"\n".join(map(_attacked, self.items))).hexdigest()

    def examples(self, count: int) -> tuple[Item, ...]:
        """Kept facts to show before a question."""
        return self.split("neighbours")[:count] or self.split("general")[:count]

    def counterpart(self, item: Item) -> Item | None:
        """Another forgotten item of the same kind with other secrets: a guess would hit it as often as `item`."""
        forget = self.forget
        at = [other.key for other in forget].index(item.key) if item in forget else 0
        following = (*forget[at:], *forget[:at])
        alike = [other for other in following if other.kind == item.kind and other.key != item.key]
        return next((other for other in alike if not set(other.giveaways) & set(item.giveaways)), None)


def sample(items: Sequence[Item], count: int) -> tuple[Item, ...]:
    """`count` of them, always the same whatever their order; a larger sample holds the smaller."""
    return tuple(sorted(items, key=lambda item: hashlib.sha256(item.key.encode()).digest())[:count])


def _attacked(item: Item) -> bytes:
    values = asdict(item)
    fields = {name: values[name] for name in _ATTACKED} | {"decoys": item.perturbed_answers}
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def _sha256(fields: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()
