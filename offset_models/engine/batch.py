"""One step of the engine: which tokens of which streams run next, and the rows that come out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deltaserve.errors import OffsetUnavailable
from deltaserve.offset_models.engine.forward.runner import Work
from deltaserve.offset_models.engine.models import LoadedModel
from deltaserve.offset_models.engine.offset_rows import PairLogits, make_rows, offset_rows
from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.offset_models.engine.streams import EngineStream, Fan, Recipe
from deltaserve.server.decoding.protocols import OffsetRow

RowOrError = OffsetRow | OffsetUnavailable


@dataclass(frozen=True, slots=True)
class Chunk:
    """Ids start..stop-1 of a stream are to be computed, and then maybe ways on behind them."""

    stream: EngineStream
    start: int
    stop: int
    fan: Fan | None = None

    @property
    def chain_rows(self) -> int:
        """Rows wanted of the last positions of the chunk."""
        return max(0, self.stop - max(self.stream.want_from, self.start + 1) + 1)

    @property
    def rows(self) -> int:
        """All rows wanted; those of the ways on are the last."""
        return self.chain_rows + (0 if self.fan is None else len(self.fan.branches.wanted))


def choose(streams: Iterable[EngineStream], settings: EngineSettings) -> list[Chunk]:
    """Running streams whole, prompts by chunks of a shared budget, oldest first; followers of a prefix wait for it."""
    budget = settings.chunk_tokens
    chunks = []
    for stream in streams:
        todo = stream.todo
        if todo > settings.step_tokens:
            if waits_for_prefix(stream):
                continue
            todo = min(stream.todo, budget)
            budget -= todo
        whole = stream.done + todo == len(stream.ids)
        if todo or (whole and stream.fan):
            chunks.append(Chunk(stream, stream.done, stream.done + todo, stream.fan if whole else None))
    return chunks


def waits_for_prefix(stream: EngineStream) -> bool:
    """True while another stream computes a prefix of this one in every model that still lacks it."""
    lanes = zip(stream.recipe.lanes, stream.slots, strict=True)
    waits = [lane.model.pool.waits(slot) for lane, slot in lanes]
    if any(waits):
        return True
    stream.done = max(stream.done, min(slot.length for slot in stream.slots))
    return False


@dataclass(frozen=True, slots=True)
class RowsToDecide:
    """Rows that stay where they are: those of the streams, one after the other."""

    base: Tensor  # [R, W] float32
    offset: Tensor
    streams: list[tuple[EngineStream, int, int]]  # stream, position of its first row, number of its rows


class Batch:
    """The forwards of one step: every model runs once, whatever the streams' recipes."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks = chunks
        self.works: dict[LoadedModel, list[Work]] = {}
        self.to_decide: list[RowsToDecide] = []
        self._rows_so_far: dict[LoadedModel, int] = {}

    def run(self) -> list[list[RowOrError]]:
        """The wanted rows of each chunk, where they do not stay (`to_decide`); marks the chunks' ids as computed."""
        groups: dict[int, list[int]] = {}
        for i, chunk in enumerate(self.chunks):
            groups.setdefault(id(chunk.stream.recipe), []).append(i)
        spans = [self._add(self.chunks[members[0]].stream.recipe, members) for members in groups.values()]
        logits = {model: model.runner.forward_packed(works) for model, works in self.works.items() if works}
        rows: list[list[RowOrError]] = [[] for _ in self.chunks]
        for members, lanes in zip(groups.values(), spans, strict=True):
            self._distribute(members, lanes, logits, rows)
        for chunk in self.chunks:
            chunk.stream.done = chunk.stop
            for slot in chunk.stream.slots:
                slot.length = max(slot.length, chunk.stop)
        return rows

    @property
    def tokens(self) -> int:
        """Tokens that went through a model, all members together."""
        return sum(len(work.all_ids) for works in self.works.values() for work in works)

    def _add(self, recipe: Recipe, members: Sequence[int]) -> list[slice]:
        """Queue a group's work, lane by lane; returns where each lane's logits will be."""
        spans = []
        for j, lane in enumerate(recipe.lanes):
            works = self.works.setdefault(lane.model, [])
            first = self._rows_so_far.get(lane.model, 0)
            for i in members:
                chunk = self.chunks[i]
                start = max(chunk.start, chunk.stream.slots[j].length)
                branches = None if chunk.fan is None else chunk.fan.branches
                if start < chunk.stop or branches is not None:
                    ids, slot = chunk.stream.ids[start : chunk.stop], chunk.stream.slots[j].index
                    works.append(Work(slot, start, ids, lane.adapter, chunk.chain_rows, branches))
            last = first + sum(self.chunks[i].rows for i in members)
            self._rows_so_far[lane.model] = last
            spans.append(slice(first, last))
        return spans

    def _distribute(
        self,
        members: Sequence[int],
        lanes: Sequence[slice],
        logits: dict[LoadedModel, Tensor],
        rows: list[list[RowOrError]],
    ) -> None:
        recipe = self.chunks[members[0]].stream.recipe
        if lanes[0].start == lanes[0].stop:
            return
        lane_logits = [logits[lane.model][span] for lane, span in zip(recipe.lanes, lanes, strict=True)]
        parts = [
            PairLogits(loaded.pair, strength, lane_logits[o], lane_logits[u], recipe.gated)
            for (loaded, strength), (o, u) in zip(recipe.parts, recipe.members, strict=True)
        ]
        base, offset = offset_rows(parts)
        staying: list[int] = []
        end = 0
        for i in members:
            first, end = end, end + self.chunks[i].rows
            if self.chunks[i].stream.decided:
                staying.append(i)
            else:
                rows[i] = make_rows(base[first:end], offset[first:end])
        if staying:
            self._leave(base, offset, members, staying)

    def _leave(self, base: Tensor, offset: Tensor, members: Sequence[int], staying: Sequence[int]) -> None:
        """Of a group's rows, those of some of its members stay on the device."""
        if len(staying) < len(members):
            mine = [i in staying for i in members for _ in range(self.chunks[i].rows)]
            at = torch.tensor(mine, device=base.device).nonzero()[:, 0]
            base, offset = base.index_select(0, at), offset.index_select(0, at)
        chunks = [self.chunks[i] for i in staying]
        streams = [(chunk.stream, chunk.stop - chunk.rows + 1, chunk.rows) for chunk in chunks]
        self.to_decide.append(RowsToDecide(base, offset, streams))
