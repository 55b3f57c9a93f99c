"""Training rows as a pair of another tokenizer reads them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import kl_div

from deltaserve.errors import BadRequest
from deltaserve.offset_models.bridge.bridge import Bridge
from deltaserve.offset_models.bridge.bridges import Bridges
from deltaserve.offset_models.bridge.row import UNTOLD
from deltaserve.offset_models.bridge.spelled import spelled
from deltaserve.offset_models.files.digests import digest_of
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.bridging.aligned import Aligned, Aligner
from deltaserve.offset_models.training.bridging.flat import Numbers, aligned_from, numbers_of
from deltaserve.offset_models.training.bridging.pieces import Piece, Sizes, in_pieces, pieces
from deltaserve.offset_models.training.bridging.projected import Projection
from deltaserve.offset_models.training.bridging.prompts import OtherTokenizer, pair_prompts
from deltaserve.offset_models.training.rows.dataset import Data
from deltaserve.offset_models.training.rows.row import BadRow, Row, digest_of_ids
from deltaserve.offset_models.training.rows.samples import Sample, named, prompt_ids
from deltaserve.offset_models.training.rows.scored import Scored, TopK

_KEPT_FORM: Final = 1  # another number for another form of what is kept, or other places
_FORM: Final = 1  # another number for other arithmetic: a run does not go on with it
_KEPT: Final = 1 << 15  # rows whose places are remembered, some 20 KB each
_BROKEN: Final = 1 << 9  # those that are read broken come in one step only
_JUDGED: Final = 16  # places at a time, some 8 MB each
_MARK: Final = 8  # numbers of a digest
_ANSWERED: Final = "(that is how the black box answers it: give the row an answer of your own)"


class Kept(Protocol):
    """Arrays of numbers by 32 bytes, on disk."""

    def get(self, key: bytes) -> Numbers | None:
        """None where there is none."""

    def put(self, key: bytes, numbers: Numbers) -> None:
        """In place of what was there."""


def bridged_reading(folder: Path | None, base: Path, data: Iterable[Data], tables: Path) -> "BridgedReading | None":
    """How the base reads rows in the tokens of the tokenizer in `folder`; None where ids mean the same in both.

    `tables`: a folder that keeps what is built once. Raises BadCheckpoint for a tokenizer that cannot be bridged.
    """
    if folder is None:
        return None
    box, pair = Tokenizer.load(folder), Tokenizer.load(base)
    bridge = Bridges(box, tables).to(pair)
    if bridge is None:
        return None
    return BridgedReading(bridge, OtherTokenizer(folder, pair_prompts(data, box, pair), tables))


def check_tokenizers(folder: Path | None, base: Path) -> None:
    """Before anything is asked. Raises BadRequest for no such folder, BadCheckpoint for what cannot be bridged."""
    if folder is None:
        return
    if not folder.is_dir():
        raise BadRequest(f"--upstream-tokenizer: there is no folder {folder}.")
    box, pair = Tokenizer.load(folder), Tokenizer.load(base)
    if box.fingerprint.ids != pair.fingerprint.ids:
        spelled(box, "The black box's")
        spelled(pair, "The pair's")


@dataclass
class BridgedReading:
    """`learning.passes.reading.Reading` through a bridge. Belongs to one run."""

    bridge: Bridge
    box: OtherTokenizer
    kept: Sequence[Kept] = ()  # what was aligned before; to be looked into
    _known: dict[bytes, Aligned] = field(default_factory=dict)
    _broken: dict[bytes, Aligned] = field(default_factory=dict)
    _checked: set[bytes] = field(default_factory=set)
    _projections: dict[torch.device, Projection] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._aligner = Aligner(self.bridge, self.box.prompts)

    @property
    def identity(self) -> str:
        """Changes with what is read, and how."""
        return digest_of([_FORM, self.bridge.pair.identity, sorted(map(list, self.box.prompts.values()))])

    @property
    def tokenizers(self) -> str:
        """Changes with what aligning reads, but for the row: both tokenizers, and how it is kept."""
        bridge = self.bridge
        return digest_of(
            [_KEPT_FORM, bridge.box.identity, bridge.box.tokenizer.bos_id, bridge.pair.identity, bridge.pair.way]
        )

    def keep(self, row: Scored, kept: Kept) -> None:
        """Puts the aligned row there, unless it is there."""
        key = self._key(row[0])
        if not _is_of(kept.get(key), row[1]):
            kept.put(key, np.concatenate([_mark(row[1]), numbers_of(self._aligned(row))]))

    def check(self, row: Row, sample: Sample) -> None:
        """Raises BadRow, which names the row, for what the base cannot be trained on: `rows.dataset.Check`."""
        if sample.digest in self._checked or self._was_aligned(sample):
            return
        self._check_prompt(row, sample.prompt_ids)
        try:
            self._aligner.check(sample)
        except BadRequest as error:
            own = row.completion is not None or not sample.answer_ids
            raise BadRow(named(row, error.message if own else f"{error.message} {_ANSWERED}")) from error
        self._checked.add(sample.digest)

    def check_asked(self, row: Row) -> None:
        """The same of its prompt alone."""
        self.check(row, Sample(tuple(prompt_ids(row, self.bridge.box.tokenizer)), ()))

    def _check_prompt(self, row: Row, ids: tuple[int, ...]) -> None:
        if row.messages and ids not in self.box.prompts:
            prompt_ids(row, self.bridge.pair.tokenizer)  # the base's template says why

    def ids(self, row: Scored) -> list[int]:
        return self._aligned(row).ids

    def places(self, row: Scored) -> range:
        aligned = self._aligned(row)
        return range(aligned.first, aligned.first + aligned.rows)

    @torch.no_grad()
    def shapes(self, initial: Tensor, tables: Tensor, rows: Sequence[Scored]) -> Tensor:
        """The shape that serving imputes a tail with: a text counts for the longest token that begins it.

        An answer's token that needs several of the pair's, which has no weight there, has its own probability.
        """
        projection = self._projection(initial.device)
        parts = zip(self._parts(initial, rows), rows, strict=True)
        shape = torch.cat([in_pieces(projection.shape, part, self._pieces(row)) for part, row in parts])
        return torch.where((shape <= UNTOLD) & (tables > UNTOLD), tables, shape)

    def tables(self, logits: Tensor, rows: Sequence[Scored]) -> Tensor:
        """One row after the other, each in pieces: what a table is made of is large."""
        projection = self._projection(logits.device)
        parts = zip(self._parts(logits, rows), rows, strict=True)
        return torch.cat([in_pieces(projection.of, part, self._pieces(row)) for part, row in parts])

    @torch.no_grad()
    def divergence(self, unlearned: Tensor, initial: Tensor, rows: Sequence[Scored]) -> Tensor | None:
        """At the pair's own rows, as a served gate is."""
        found = []
        for row, u, o in zip(rows, self._parts(unlearned, rows), self._parts(initial, rows), strict=True):
            for at in torch.split(self._aligned(row).deepest.to(u.device, torch.long), _JUDGED):
                log_u, log_o = (self._log_p(part[at]) for part in (u, o))
                found.append(kl_div(log_o, log_u, reduction="none", log_target=True).sum(1))
        return torch.cat(found)

    def _pieces(self, row: Scored) -> list[Piece]:
        pair, box = self.bridge.pair.vocabulary, self.bridge.box.vocabulary
        return pieces(self._aligned(row), Sizes.of(len(pair.ids), len(box.spellings)))

    def _log_p(self, logits: Tensor) -> Tensor:
        return logits[:, : self.bridge.pair.tokenizer.vocab_size].float().log_softmax(1)

    def _parts(self, logits: Tensor, rows: Sequence[Scored]) -> Sequence[Tensor]:
        return torch.split(logits, [len(self.places(row)) for row in rows])

    def _aligned(self, row: Scored) -> Aligned:
        sample, top = row
        kept, most = (self._broken, _BROKEN) if sample.read_ids else (self._known, _KEPT)
        if sample.digest not in kept:
            if len(kept) >= most:
                kept.clear()
            kept[sample.digest] = self._from_kept(row) or self._aligner.align(sample, top)
        return kept[sample.digest]

    def _from_kept(self, row: Scored) -> Aligned | None:
        key = self._key(row[0])
        for kept in self.kept:
            numbers = kept.get(key)
            if numbers is not None and _is_of(numbers, row[1]):
                return aligned_from(numbers[_MARK:])
        return None

    def _was_aligned(self, sample: Sample) -> bool:
        """Along whatever lists."""
        return any(kept.get(self._key(sample)) is not None for kept in self.kept)

    def _key(self, sample: Sample) -> bytes:
        """32 bytes: the row as both tokenizers have it."""
        return digest_of_ids([sample.digest.hex(), self.box.prompts.get(sample.prompt_ids)])

    def _projection(self, device: torch.device) -> Projection:
        """Remembered: it moves the tables of both vocabularies."""
        if device not in self._projections:
            self._projections[device] = Projection(self.bridge, device)
        return self._projections[device]


def _mark(top: TopK | None) -> Numbers:
    """Of the lists that a row was aligned along, [_MARK]."""
    return np.frombuffer(digest_of_ids(None if top is None else top.ids.tolist()), np.int32)


def _is_of(numbers: Numbers | None, top: TopK | None) -> bool:
    return numbers is not None and np.array_equal(numbers[:_MARK], _mark(top))
