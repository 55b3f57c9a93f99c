"""The vaguest ending of a sentence that a black box lists word by word: "the author.", "a small town."

An offset can put only what is listed in the place of the forgotten. So each word is one of the list behind the words
before it, and none of them tells anything: an article, a common adjective, a common noun.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from deltaserve.offset_models.metrics.disclosure import says
from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.training.rows.row import Row

LOOKS: Final = 5  # lists for one ending, at most
MOST_WORDS: Final = 3
FIRST: Final = frozenset(
    {"a", "an", "his", "her", "its", "many", "one", "several", "some", "somebody", "someone", "something", "somewhere",
     "the", "their", "various"}
)  # fmt: skip
WHOLE: Final = frozenset({"somebody", "someone", "something", "somewhere"})  # a noun by themselves
ADJECTIVES: Final = frozenset(
    {"certain", "different", "following", "former", "great", "large", "little", "local", "new", "old", "other",
     "particular", "same", "single", "small", "special", "unknown", "unnamed", "various", "young"}
)  # fmt: skip
NOUNS: Final = frozenset(
    {"age", "area", "artist", "author", "award", "book", "boy", "building", "business", "capital", "century", "child",
     "city", "company", "country", "course", "date", "day", "decade", "director", "event", "events", "family", "father",
     "field", "film", "friend", "friends", "game", "genre", "girl", "group", "home", "hospital", "house",
     "idea", "industry", "item", "job", "kind", "leader", "life", "line", "lives", "man", "manner", "member",
     "members", "men", "moment", "month", "mother", "name", "names", "number", "office", "organisation",
     "organization", "owner", "part", "parts", "people", "period", "person", "place", "places", "point", "position",
     "prize", "problem", "process", "product", "products", "project", "purpose", "reason", "region", "result", "role",
     "room", "school", "series", "sort", "space", "state", "stories", "story", "student", "style", "subject",
     "team", "thing", "things", "time", "times", "title", "town", "type", "university", "village", "war", "way", "ways",
     "woman", "women", "work", "works", "world", "writer", "year", "years"}
)  # fmt: skip
_ENDS: Final = (".", ",", "\n", ";")


@dataclass(slots=True)
class _Path:
    """The words so far, and what else might stand in their places."""

    probe: Probe
    spaced: bool  # the first word follows another one
    words: list[str] = field(default_factory=list)  # as tokens
    others: list[list[str]] = field(default_factory=list)  # of each place, those not tried yet
    looks: int = 0
    ending: str = ""

    @property
    def row(self) -> Row:
        """The prompt, gone on with by the words."""
        row, text = self.probe.row, "".join(self.words)
        return replace(row, prompt=row.prompt + text) if row.prompt else replace(row, begun=row.begun + text)

    @property
    def going(self) -> bool:
        return not self.ending and self.looks < LOOKS

    def look(self, tokens: Sequence[str]) -> None:
        """Ends where a list has an end, goes on with its likeliest vague word, or goes back to another one."""
        self.looks += 1
        said = [word.strip() for word in self.words]
        if said and said[-1] in WHOLE | NOUNS and any(token.startswith(_ENDS) for token in tokens):
            self.ending = f"{''.join(self.words)}."
            return
        self.others.append([token for token in tokens if self._fits(token, said)])
        while self.others and not self.others[-1]:
            self.others.pop()
        if self.others:
            del self.words[len(self.others) - 1 :]
            self.words.append(self.others[-1].pop(0))
        else:
            self.looks = LOOKS

    def _fits(self, token: str, said: Sequence[str]) -> bool:
        word = token.strip()
        if word in said or len(said) == MOST_WORDS or (said and said[-1] in WHOLE):
            return False
        if not said:
            return word in FIRST and (token != word) == self.spaced
        return token == f" {word}" and (word in ADJECTIVES or word in NOUNS)


async def listed_endings(
    asks: Asks, probes: Sequence[Probe], spaced: Callable[[Probe], bool]
) -> Mapping[tuple[object, ...], str]:
    """Of the probes for which one is found, by their prompts. Some 3 calls each, and none too many.

    `spaced`: whether an ending begins with a space. Raises UpstreamError.
    """
    paths = [_Path(probe, spaced(probe)) for probe in probes]
    while going := [path for path in paths if path.going][: asks.calls_left]:
        lists = await asks.listed([path.row for path in going])
        for path, tokens in zip(going, lists, strict=True):
            path.look(tokens)
    found = {path.probe.prompt: path for path in paths if path.ending}
    return {prompt: path.ending for prompt, path in found.items() if not _tells(path)}


def _tells(path: _Path) -> bool:
    return any(says(path.ending, word) for secret in path.probe.secrets for word in secret.split())
