"""Which of the pair's rows tell of each place of an answer, where its tokenizer is not the black box's. No model here.

The pair reads the answer in its own tokens, once. The rows along that text are all that training has: what serving
would look up behind other tokens (docs/bridge.md) is left out. So a place tells

- of the token that the answer goes on with: all that lies on the way of the text, which is nearly everything;
- of a listed token: the texts that one more token of the pair begins, and where the pair needs several tokens for it,
  the first of these that leaves the text, as if the others were certain;
- of every other token: the texts that one more token of the pair begins.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from deltaserve.errors import BadRequest, NoOffset
from deltaserve.offset_models.bridge.bridge import Bridge
from deltaserve.offset_models.bridge.neighbours import Path
from deltaserve.offset_models.bridge.position import Position
from deltaserve.offset_models.training.bridging.sums import Steps, Sums, Term, Ways, slice_of
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import TopK

_NOT_TEXT: Final = (
    "Its answer holds a special token, or what the base's tokenizer cannot write, of which a base of another tokenizer "
    "tells nothing: leave it out"
)
_NOTHING: Final = (
    "It is running text without anything before its first token that the base could read, whose tokenizer puts nothing "
    "before a text: give it as {prompt, completion}"
)
_MARKED: Final = (
    "Its prompt has special tokens, or bytes that are no text, of which a base of another tokenizer tells nothing: "
    "leave them out; a chat is given as {messages}, with {begun} for the beginning of an answer"
)
_REMEMBERED: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class OpenWays:
    """At each place the nodes of the bytes t that are not settled, and the tokens that spell them."""

    at: Tensor  # [ways] int32 the place
    row: Tensor  # [ways] int32 behind it
    ways: Ways
    rests: tuple[bytes, ...]  # what each leaves of t

    def part(self, first: int, end: int) -> "OpenWays":
        """At the places from `first` on up to `end`."""
        within = slice_of(self.at, first, end)
        ways = self.ways.part(within.start, within.stop)
        return OpenWays(self.at[within] - first, self.row[within], ways, self.rests[within])

    def from_row(self, first: int) -> "OpenWays":
        """Of a text that begins at this row."""
        return OpenWays(self.at, self.row - first, self.ways.from_row(first), self.rests)


@dataclass(frozen=True, slots=True)
class Told:
    """Ids that are looked at one by one: P(t + bytes(v))."""

    at: Tensor  # [told] int32 the place
    ids: Tensor  # [told] int32
    sums: Sums

    def part(self, first: int, end: int) -> "Told":
        """At the places from `first` on up to `end`."""
        within = slice_of(self.at, first, end)
        return Told(self.at[within] - first, self.ids[within], self.sums.part(within.start, within.stop))

    def from_row(self, first: int) -> "Told":
        """Of a text that begins at this row."""
        return Told(self.at, self.ids, self.sums.from_row(first))


@dataclass(frozen=True, slots=True)
class Aligned:
    """One sample as the pair reads it."""

    ids: list[int]
    first: int  # row 0 is the one behind ids[: first + 1]
    places: int  # where one of the black box's tokens comes next
    open: OpenWays
    begun: Sums  # P(t) at each place
    told: Told
    deepest: Tensor  # [places] int32: the row behind all that is certain, by which a gate is judged
    lost: Tensor  # [places] bool: the rows along the text tell nothing there

    @property
    def rows(self) -> int:
        return len(self.ids) - self.first


@dataclass(frozen=True, slots=True)
class _Place:
    """One place before the whole text is known."""

    settled: int  # tokens
    unsettled: bytes
    ways: list[tuple[Path, bytes]]
    answer: int
    followed: bool  # whether the text goes on with the answer, and not with noise
    listed: Sequence[int]


class Aligner:
    """For one bridge, and the pair's own prompts of chats. Belongs to one thread."""

    def __init__(self, bridge: Bridge, prompts: Mapping[tuple[int, ...], Sequence[int]]) -> None:
        """`prompts`: from the black box's ids of a chat's prompt to the pair's; other prompts are text."""
        self._bridge, self._prompts = bridge, prompts
        self._line = lru_cache(_REMEMBERED)(self._encoded)

    def align(self, sample: Sample, top: TopK | None) -> Aligned:
        """Raises BadRequest as `check` does."""
        at = self._begin(sample)
        begun, first, places = at.begun, len(at.settled) - 1, list[_Place]()
        lists = [()] * len(sample.answer_ids) if top is None else top.ids.tolist()
        said = zip(sample.answer_ids, sample.read_ids or sample.answer_ids, lists, self._along(at, sample), strict=True)
        for token, read, listed, ways in said:
            places.append(_Place(len(at.settled), at.unsettled, ways, token, read == token, listed))
        text = _Text(self._bridge, [*at.settled, *self._spelling(at)], first, begun)
        return _joined(text, [self._looked(text, place) for place in places])

    def check(self, sample: Sample) -> None:
        """Raises BadRequest, which says why, for a sample that cannot be aligned; takes a tenth of that time."""
        for _ in self._along(self._begin(sample), sample):
            pass

    def _along(self, at: Position, sample: Sample) -> Iterator[list[tuple[Path, bytes]]]:
        """The ways on before each token of the answer, behind which `at` goes on then."""
        reads = sample.read_ids or sample.answer_ids
        for number, read in enumerate(reads, 1):
            yield [(node.path, node.rest) for node in at.ways()]
            self._go_on(at, read, free=bool(sample.read_ids) or number == len(reads))

    def _begin(self, sample: Sample) -> Position:
        own = self._prompts.get(sample.prompt_ids)
        if own is not None:
            return self._bridge.begin_behind(own)
        try:
            at = self._bridge.begin(sample.prompt_ids)
        except (BadRequest, NoOffset) as error:
            raise BadRequest(_MARKED) from error
        if not at.settled:
            raise BadRequest(_NOTHING)
        return at

    def _go_on(self, at: Position, token: int, *, free: bool) -> None:
        """An end is no text. `free`: what cannot be read may be left out: the last token, and what noise put there."""
        if token in self._bridge.reader.ends:
            return
        try:
            at.go_on(self._bridge.said(token))
        except NoOffset as error:
            if not free:
                raise BadRequest(_NOT_TEXT) from error

    def _spelling(self, at: Position) -> Path:
        """The tokens that the pair writes for what is not settled."""
        if not at.unsettled:
            return ()
        written = self._line(at.unsettled)
        whole = [node.path for node in at.ways() if not node.rest]
        return written if written in whole else next(iter(whole), written)

    def _looked(self, text: "_Text", place: _Place) -> "_Looked":
        there = text.behind(place.settled)
        ways = [(path, rest) for path, rest in place.ways if there.has(path)]
        begun = there.terms(place.unsettled)
        if place.unsettled and not begun:
            return _Looked([], [], {}, there)
        told = {}
        for token in dict.fromkeys((place.answer, *place.listed)):
            word = self._bridge.box.vocabulary.spellings[token]
            line = self._line(place.unsettled + word) if word else ()
            if word and token == place.answer and place.followed:
                told[token] = there.terms(place.unsettled + word) or there.terms(place.unsettled + word, line)
            elif word and not self._read_from(ways, line, word):
                told[token] = there.terms(place.unsettled + word, line)
        return _Looked(ways, begun, {token: terms for token, terms in told.items() if terms}, there)

    def _read_from(self, ways: Sequence[tuple[Path, bytes]], line: Path, word: bytes) -> bool:
        """Whether one more token behind a way on the text tells of these tokens, in a sum that keeps its digits.

        At the end of t the tables have differences of cumulative sums where several tokens begin with the word.
        """
        first, end = self._bridge.pair.vocabulary.interval(word)
        return any(
            line[: len(path)] == path and len(line) - len(path) <= 1 and (bool(rest) or end - first == 1)
            for path, rest in ways
        )

    def _encoded(self, text: bytes) -> Path:
        return tuple(self._bridge.pair.encode(text) or ())


@dataclass(frozen=True, slots=True)
class _Text:
    """What the pair reads."""

    bridge: Bridge
    ids: Sequence[int]
    first: int  # of row 0
    begun: int  # settled tokens of a prompt that no answer's token is judged with

    def behind(self, settled: int) -> "_Behind":
        before = self.bridge.pair.tree.neighbours.reach(tuple(self.ids[self.begun : settled]))
        return _Behind(self.bridge, tuple(self.ids[settled:]), settled - 1 - self.first, before)


@dataclass(frozen=True, slots=True)
class _Behind:
    """The text behind what is settled at one place."""

    bridge: Bridge
    ids: Path
    row_before: int  # the row of the first of them
    before: Path  # what the tree needs to know of the settled tokens

    def has(self, path: Path) -> bool:
        return self.ids[: len(path)] == path

    def row(self, path: Path) -> int:
        return self.row_before + len(path)

    def steps(self, path: Path) -> Steps:
        place = self.bridge.pair.vocabulary.place
        return tuple((self.row_before + depth, place[token]) for depth, token in enumerate(path))

    def terms(self, x: bytes, line: Path = ()) -> list[Term]:
        """Of P(x), at its nodes on the text; and the first token of `line`, what x is by itself, that leaves it."""
        return list(self._terms(x, line))

    def _terms(self, x: bytes, line: Path) -> Iterator[Term]:
        vocabulary, nodes = self.bridge.pair.vocabulary, 0
        for path, rest in self._nodes(x):
            nodes += 1
            interval = vocabulary.interval(rest)
            if interval[0] < interval[1]:
                yield Term(self.steps(path), self.row(path), *interval)
        shared = next((depth for depth in range(len(line)) if not self.has(line[: depth + 1])), len(line))
        if line and (shared < len(line) - 1 or not nodes):
            depth = min(shared, len(line) - 1)
            place = vocabulary.place[line[depth]]
            yield Term(self.steps(line[:depth]), self.row(line[:depth]), place, place + 1)

    def _nodes(self, x: bytes) -> Iterator[tuple[Path, bytes]]:
        """The paths on the text that leave something of x which the tokenizer may cover from there."""
        tree, rest = self.bridge.pair.tree, x
        for depth in range(len(self.ids) + 1):
            path = self.ids[:depth]
            if not rest:
                return
            if tree.covers((*self.before, *path), rest):
                yield path, rest
            word = self.bridge.pair.vocabulary.spelling(self.ids[depth]) if depth < len(self.ids) else b""
            if not word or not rest.startswith(word):
                return
            rest = rest[len(word) :]


@dataclass(frozen=True, slots=True)
class _Looked:
    """One place, and where the rows are that tell of it."""

    ways: list[tuple[Path, bytes]]  # none: the rows along the text tell nothing here
    begun: list[Term]
    told: Mapping[int, list[Term]]
    text: _Behind

    @property
    def deepest(self) -> int:
        return self.text.row(self.ways[-1][0] if self.ways else ())


def _joined(text: _Text, looked: Sequence[_Looked]) -> Aligned:
    ways = [(at, each.text, path, rest) for at, each in enumerate(looked) for path, rest in each.ways]
    told = [(at, token, terms) for at, each in enumerate(looked) for token, terms in each.told.items() if each.ways]
    return Aligned(
        list(text.ids),
        text.first,
        len(looked),
        OpenWays(
            _numbers(at for at, *_ in ways),
            _numbers(there.row(path) for _, there, path, _ in ways),
            Ways.of([there.steps(path) for _, there, path, _ in ways]),
            tuple(rest for *_, rest in ways),
        ),
        Sums.of([each.begun for each in looked]),
        Told(_numbers(at for at, *_ in told), _numbers(i for _, i, _ in told), Sums.of([t for *_, t in told])),
        _numbers(each.deepest for each in looked),
        torch.tensor([not each.ways for each in looked]),
    )


def _numbers(numbers: Iterator[int]) -> Tensor:
    return torch.tensor(list(numbers), dtype=torch.int32)
