"""Which of the pair's rows tell of each place of an answer, where its tokenizer is not the black box's. No model here.

The pair reads the answer in its own tokens, once. The rows along that text are all that training has: what serving
would look up behind other tokens (docs/bridge.md) is left out. So a place tells

- of the token that the answer goes on with: all that lies on the way of the text, which is nearly everything;
- of a listed token: the texts that one more token of the pair begins, and where the pair needs several tokens for it,
  the first of these that leaves the text, as if the others were certain;
- of every other token: the texts that one more token of the pair begins.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deltaserve.errors import BadRequest, NoOffset
from deltaserve.offset_models.bridge.bridge import Bridge
from deltaserve.offset_models.bridge.neighbours import Path
from deltaserve.offset_models.bridge.position import Position
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import TopK

_NOT_TEXT: Final = "An answer has a special token within it, of which a pair of another tokenizer tells nothing: {why}"

Steps = tuple[tuple[int, int], ...]  # (row, place in the order of bytes) of each token on a way


@dataclass(frozen=True, slots=True)
class Term:
    """The probability of a way, times that of all tokens of one interval behind it."""

    steps: Steps
    row: int
    first: int  # places in the order of bytes
    end: int


@dataclass(frozen=True, slots=True)
class Way:
    """A node of the bytes that are not settled, or the tokens that spell them."""

    steps: Steps
    row: int  # behind it
    rest: bytes  # what it leaves of them


@dataclass(frozen=True, slots=True)
class Place:
    """Where one of the black box's tokens comes next."""

    ways: tuple[Way, ...]  # none: the rows along the text tell nothing here
    begun: tuple[Term, ...]  # P(t); none where t has no bytes
    told: Mapping[int, tuple[Term, ...]]  # P(t + bytes(v)) of ids that are looked at one by one


@dataclass(frozen=True, slots=True)
class Aligned:
    """One sample as the pair reads it."""

    ids: list[int]
    first: int  # row 0 is the one behind ids[: first + 1]
    places: list[Place]

    @property
    def rows(self) -> int:
        return len(self.ids) - self.first


@dataclass(frozen=True, slots=True)
class _Looked:
    """A place before it is known which of its paths lie on the text."""

    settled: int  # tokens
    ways: list[tuple[Path, bytes]]
    begun: list[tuple[Path, bytes]]
    told: dict[int, tuple[list[tuple[Path, bytes]], Path]]  # nodes, and the tokens that the bytes are by themselves


class Aligner:
    """For one bridge, and the pair's own prompts of chats."""

    def __init__(self, bridge: Bridge, prompts: Mapping[tuple[int, ...], Sequence[int]]) -> None:
        """`prompts`: from the black box's ids of a chat's prompt to the pair's; other prompts are text."""
        self._bridge, self._prompts = bridge, prompts
        self._vocabulary = bridge.pair.vocabulary

    def align(self, sample: Sample, top: TopK | None) -> Aligned:
        """Raises BadRequest for special tokens within a text."""
        at = self._begin(sample)
        begun, looked = len(at.settled), []
        lists = [()] * len(sample.answer_ids) if top is None else top.ids.tolist()
        for token, read, listed in zip(sample.answer_ids, sample.read_ids or sample.answer_ids, lists, strict=True):
            looked.append(self._look(at, [token, *listed], token))
            self._go_on(at, read, last=len(looked) == len(lists))
        ids = [*at.settled, *self._spelling(at)]
        return Aligned(ids, begun - 1, [self._placed(each, ids, begun - 1) for each in looked])

    def _begin(self, sample: Sample) -> Position:
        own = self._prompts.get(sample.prompt_ids)
        return self._bridge.begin(sample.prompt_ids) if own is None else self._bridge.begin_behind(own)

    def _go_on(self, at: Position, token: int, *, last: bool) -> None:
        """An end is no text: none follows the last one, and a token that is only read wrong as one says nothing."""
        if token in self._bridge.reader.ends:
            return
        try:
            at.go_on(self._bridge.said(token))
        except NoOffset as error:
            if not last:
                raise BadRequest(_NOT_TEXT.format(why=error.message)) from error

    def _look(self, at: Position, ids: Iterable[int], answer: int) -> _Looked:
        ways = [(node.path, node.rest) for node in at.ways()]
        begun = [(node.path, node.rest) for node in at.nodes(at.unsettled)] if at.unsettled else []
        told = {}
        for token in dict.fromkeys(ids):
            text = at.unsettled + (self._bridge.box.vocabulary.spellings[token] or b"")
            line = tuple(self._bridge.pair.encode(text) or ())
            if text != at.unsettled and (token == answer or not _read_from(ways, line)):
                told[token] = [(node.path, node.rest) for node in at.nodes(text)], line
        return _Looked(len(at.settled), ways, begun, told)

    def _spelling(self, at: Position) -> Path:
        """The tokens that the pair writes for what is not settled."""
        if not at.unsettled:
            return ()
        written = tuple(self._bridge.pair.encode(at.unsettled) or ())
        whole = [node.path for node in at.ways() if not node.rest]
        return written if written in whole else next(iter(whole), written)

    def _placed(self, looked: _Looked, ids: Sequence[int], first: int) -> Place:
        text = _Text(self._vocabulary.place, tuple(ids[looked.settled :]), looked.settled - 1 - first)
        ways = tuple(Way(text.steps(path), text.row(path), rest) for path, rest in looked.ways if text.has(path))
        told = {token: tuple(self._terms(text, *paths)) for token, paths in looked.told.items()}
        begun = tuple(self._intervals(text, looked.begun))
        return Place(ways if begun or not looked.begun else (), begun, {v: terms for v, terms in told.items() if terms})

    def _intervals(self, text: "_Text", nodes: Iterable[tuple[Path, bytes]]) -> Iterator[Term]:
        for path, rest in nodes:
            first, end = self._vocabulary.interval(rest)
            if text.has(path) and first < end:
                yield Term(text.steps(path), text.row(path), first, end)

    def _terms(self, text: "_Text", nodes: Sequence[tuple[Path, bytes]], line: Path) -> Iterator[Term]:
        """At the nodes on the text; and the first token of `line` that leaves it."""
        yield from self._intervals(text, nodes)
        on_text = sum(text.has(line[: depth + 1]) for depth in range(len(line)))
        if line and (on_text < len(line) - 1 or not nodes):
            path, place = line[: min(on_text, len(line) - 1)], self._vocabulary.place[line[min(on_text, len(line) - 1)]]
            yield Term(text.steps(path), text.row(path), place, place + 1)


@dataclass(frozen=True, slots=True)
class _Text:
    """What the pair reads behind what is settled at one place."""

    place: Mapping[int, int]
    ids: Path
    row_before: int  # the row of the first of them

    def has(self, path: Path) -> bool:
        return self.ids[: len(path)] == path

    def row(self, path: Path) -> int:
        return self.row_before + len(path)

    def steps(self, path: Path) -> Steps:
        return tuple((self.row_before + depth, self.place[token]) for depth, token in enumerate(path))


def _read_from(ways: Iterable[tuple[Path, bytes]], line: Path) -> bool:
    """Whether one more token behind an open way tells of these tokens."""
    return any(line[: len(path)] == path and len(line) - len(path) <= 1 for path, _ in ways)
