"""The one thread that runs the model: continuous batching of every running answer over KV slots.

A step is one forward pass: the next token of every sequence that is due for one, and a bounded piece of the prompts.
"""

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from deltaserve.offset_models.demo.blackbox.generation.draws import Ask, Drawn, draw_rows, prompt_positions
from deltaserve.offset_models.demo.blackbox.generation.model import CausalModel, Work
from deltaserve.offset_models.demo.blackbox.generation.params import SamplingParams
from deltaserve.offset_models.demo.blackbox.generation.prefix import SlotCache
from deltaserve.offset_models.demo.blackbox.generation.sequence import Event, Group, Job, Sequence, Token
from deltaserve.offset_models.demo.blackbox.options import Options

log = logging.getLogger(__name__)

# A paced token is computed at the latest URGENT_S before it is due, and as early as AHEAD_S before when another one is
# urgent: the gap between the two lets streams share forward passes. Little is computed for a client that leaves.
AHEAD_S, URGENT_S = 0.08, 0.04
WARM_TOKENS = 16  # a prompt counts as cached when no more than a block of vLLM's size was computed


@dataclass(slots=True)
class Stats:
    """`generation_*` and `prompt_*` are written by the engine's thread, the rest by the loop; both only ever add."""

    requests: int = 0
    prompts: int = 0
    finished_requests: int = 0
    aborted_requests: int = 0
    failed_requests: int = 0
    prompt_tokens: int = 0
    prompt_tokens_computed: int = 0
    prompt_tokens_cached: int = 0
    generation_tokens_computed: int = 0  # a paced stream is computed a little ahead of what is sent
    generation_tokens_sent: int = 0
    steps: int = 0

    def describe(self) -> dict[str, int]:
        return asdict(self)


@dataclass(slots=True)
class Pending:
    """Work of one step and what to do with its rows of logits."""

    work: Work
    source: Group | Sequence


class GenerationEngine:
    """Owns the model, the slots and every unfinished sequence. `submit` and `wake` may be called from any thread."""

    def __init__(self, model: CausalModel, options: Options, stats: Stats) -> None:
        self.stats = stats
        self._model = model
        self._options = options
        self._cache = SlotCache(options.slots, model.max_len, reuse=not options.no_prefix_cache)
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting: deque[Group | Sequence] = deque()
        self._prefilling: list[Group] = []
        self._running: list[Sequence] = []
        self._out: dict[Job, list[Event]] = {}
        self._rng = np.random.default_rng(options.seed)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="blackbox-engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; sequences still running are dropped."""
        self._stopping = True
        self.wake()
        self._thread.join(timeout=10)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def busy(self) -> dict[str, int]:
        """Counts of what is running and waiting."""
        return {
            "running": len(self._running) + len(self._prefilling),
            "waiting": len(self._waiting) + self._inbox.qsize(),
        }

    def submit(self, job: Job) -> None:
        self._inbox.put(job)

    def wake(self) -> None:
        """Lets the engine see that a job was cancelled."""
        self._inbox.put(None)

    def _run(self) -> None:
        torch.set_num_threads(self._options.threads)
        with torch.inference_mode():
            while not self._stopping:
                self._take_in(self._idle_for())
                self._drop_cancelled()
                try:
                    self._step()
                except Exception:
                    log.exception("a step failed: every running request fails")
                    self._fail_all()

    # ---- intake -----------------------------------------------------------------------------------------------

    def _idle_for(self) -> float | None:
        """Seconds that may pass before the next step is needed; None: until something comes in."""
        if self._prefilling or (self._waiting and self._cache.free):
            return 0.0
        if not self._running:
            return None
        return max(0.0, min(map(self._next_due, self._running)) - URGENT_S - time.monotonic())

    def _next_due(self, sequence: Sequence) -> float:
        return sequence.first_due + len(sequence.output_ids) * self._options.ms_per_token / 1000

    def _take_in(self, timeout_s: float | None) -> None:
        with contextlib.suppress(queue.Empty):
            job = self._inbox.get(timeout=timeout_s) if timeout_s != 0 else self._inbox.get_nowait()
            while True:
                if job is not None:
                    self._waiting.extend(job.groups)
                job = self._inbox.get_nowait()

    def _drop_cancelled(self) -> None:
        held: list[Group | Sequence] = [*self._running, *self._prefilling]
        gone = [item for item in held if item.job.cancelled]
        for item in gone:
            self._free(item)
        if gone:
            self._running = [s for s in self._running if not s.job.cancelled]
            self._prefilling = [g for g in self._prefilling if not g.job.cancelled]
        if any(w.job.cancelled for w in self._waiting):
            self._waiting = deque(w for w in self._waiting if not w.job.cancelled)

    def _free(self, item: Group | Sequence) -> None:
        if item.slot is not None:
            self._cache.release(item.slot)
            item.slot = None

    # ---- one step ---------------------------------------------------------------------------------------------

    def _step(self) -> None:
        self._admit()
        batch = [*self._decodes(), *self._prefills()]
        if not batch:
            return
        logits = self._model.forward([p.work for p in batch])
        self.stats.steps += 1
        for pending in batch:
            self._cache.extend(pending.work.slot, pending.work.ids)
        self._handle(batch, logits)
        self._flush()

    def _admit(self) -> None:
        while self._waiting:
            item = self._waiting[0]
            limit = item.first_needed if isinstance(item, Group) else item.length - 1
            ids = item.prompt_ids if isinstance(item, Group) else item.all_ids
            lease = self._cache.acquire(ids, item.job.salt, limit)
            if lease is None:
                return
            self._waiting.popleft()
            if lease.copy_from is not None:
                self._model.copy(lease.copy_from, lease.slot, lease.cached)
            item.slot = lease.slot
            self._start(item, lease.cached)

    def _start(self, item: Group | Sequence, cached: int) -> None:
        if isinstance(item, Sequence):
            # It was forked after its first token. What the cache lacks is computed again, with the last id.
            item = Group(item.job, item.all_ids, {item.length: [item]}, slot=item.slot)
        item.done = item.cached = cached
        self._prefilling.append(item)

    def _decodes(self) -> Iterable[Pending]:
        horizon = time.monotonic() + AHEAD_S
        for sequence in self._running:
            if self._next_due(sequence) <= horizon and sequence.slot is not None:
                start = sequence.length - 1
                yield Pending(Work(sequence.slot, start, sequence.output_ids[-1:], [0]), sequence)

    def _prefills(self) -> Iterable[Pending]:
        budget = self._options.max_batched_tokens
        for group in self._prefilling:
            if budget <= 0 or group.slot is None:
                return
            ids = group.prompt_ids[group.done : group.done + budget]
            budget -= len(ids)
            yield Pending(Work(group.slot, group.done, ids, self._rows_wanted(group, len(ids))), group)

    def _rows_wanted(self, group: Group, count: int) -> list[int]:
        if group.prompt_index is not None:
            return list(range(count))
        return sorted(n - 1 - group.done for n in group.sequences if group.done < n <= group.done + count)

    def _handle(self, batch: list[Pending], logits: torch.Tensor) -> None:
        asks: list[Ask] = []
        takers: list[list[Sequence]] = []
        rows: list[int] = []
        row = 0
        for pending in batch:
            count = len(pending.work.rows)
            for sequences, at in self._takers(pending, logits[row : row + count]):
                asks.append(self._ask(sequences))
                takers.append(sequences)
                rows.append(row + at)
            row += count
        if asks:
            options = self._options
            modes = {"processed": options.processed_logprobs, "unmasked": options.unmasked_grammars}
            drawn = draw_rows(logits[rows], asks, self.ends, **modes)
            for sequences, result in zip(takers, drawn, strict=True):
                self._append(sequences, result)
        self._settle()

    def _takers(self, pending: Pending, logits: torch.Tensor) -> Iterable[tuple[list[Sequence], int]]:
        """Which sequences draw from which row of this piece of work."""
        if isinstance(pending.source, Sequence):
            yield [pending.source], 0
            return
        group, start = pending.source, pending.work.start
        group.done += len(pending.work.ids)
        if group.prompt_index is not None:
            self._score(group, start, logits)
        for at, offset in enumerate(pending.work.rows):
            sequences = group.sequences.get(start + offset + 1)
            if sequences:
                self._set_pace(group, sequences)
                yield sequences, at

    def _score(self, group: Group, start: int, logits: torch.Tensor) -> None:
        if not group.positions:
            group.positions.append(None)
        next_ids = group.prompt_ids[start + 1 : start + 1 + len(logits)]
        k = group.job.params.prompt_logprobs
        if next_ids and k is not None:
            group.positions.extend(prompt_positions(logits[: len(next_ids)], next_ids, k))

    def _set_pace(self, group: Group, sequences: list[Sequence]) -> None:
        """First tokens are due a while after the request came: sooner when the prompt was cached."""
        if sequences[0].output_ids:
            return
        missed = len(sequences[0].prompt_ids) - group.cached
        warm = group.cached > 0 and missed <= WARM_TOKENS
        wait_s = (self._options.first_token_ms if warm else self._options.cold_ms) / 1000
        first_due = max(group.job.created + wait_s, time.monotonic())
        for sequence in sequences:
            sequence.first_due = first_due

    def _ask(self, sequences: list[Sequence]) -> Ask:
        first = sequences[0]
        params = first.job.params
        uniforms = np.zeros(len(sequences))
        if params.temperature > 0:
            uniforms = self._rng.random(len(sequences))
            for i, sequence in enumerate(sequences):
                if sequence.rng is not None:
                    uniforms[i] = sequence.rng.random()
        allowed = None if first.walk is None else first.walk.allowed()
        return Ask(params, first.prompt_ids, first.output_ids, uniforms, allowed)

    # ---- tokens -----------------------------------------------------------------------------------------------

    def ends(self, params: SamplingParams) -> frozenset[int]:
        """Ids that end an answer."""
        return params.stop_token_ids if params.ignore_eos else params.stop_token_ids | self._model.eos_ids

    def _append(self, sequences: list[Sequence], drawn: Drawn) -> None:
        with_logprobs = sequences[0].job.params.logprobs is not None
        for i, sequence in enumerate(sequences):
            top_ids, top_logprobs = drawn.alternatives(i) if with_logprobs else ([], [])
            due = self._next_due(sequence)
            logprob = drawn.logprobs[i] if with_logprobs else None
            token = Token(drawn.token_ids[i], logprob, top_ids, top_logprobs, "", due)
            self._advance(sequence, token)
            self._out.setdefault(sequence.job, []).append(Event(sequence.index, token))
        self.stats.generation_tokens_computed += len(sequences)

    def _advance(self, sequence: Sequence, token: Token) -> None:
        """Text, stop conditions and finish reason, in vLLM's order."""
        params = sequence.job.params
        sequence.output_ids.append(token.token_id)
        if sequence.walk is not None:
            sequence.walk.take(token.token_id)
        length = len(sequence.output_ids)
        if length >= params.min_tokens and token.token_id in self.ends(params):
            token.finish_reason = "stop"
            token.stop_reason = token.token_id if token.token_id in params.stop_token_ids else None
        elif (stop := sequence.detokenizer.push(token.token_id, early=length <= params.min_tokens)) is not None:
            token.finish_reason, token.stop_reason = "stop", stop
        elif length >= params.max_tokens or sequence.length >= self._model.max_len:
            token.finish_reason = "length"
        sequence.finished = token.finish_reason is not None
        token.text = sequence.detokenizer.take(finished=sequence.finished)

    def _settle(self) -> None:
        """Finished sequences leave their slots; finished prompts hand theirs on."""
        for group in [g for g in self._prefilling if g.done == len(g.prompt_ids)]:
            self._prefilling.remove(group)
            self._hand_on(group)
        for sequence in self._running:
            if sequence.finished:
                self._free(sequence)
        self._running = [s for s in self._running if not s.finished]

    def _hand_on(self, group: Group) -> None:
        """One sequence of the whole prompt goes on in the group's slot; the others wait for one of their own."""
        if group.prompt_index is not None:
            group.job.prompt_positions[group.prompt_index] = group.positions
        self._count(group)
        going_on = [s for sequences in group.sequences.values() for s in sequences if not s.finished]
        heir = next((s for s in going_on if s.length - 1 == len(group.prompt_ids)), None)
        if heir is None:
            self._free(group)
        else:
            heir.slot, group.slot = group.slot, None
            self._running.append(heir)
        self._waiting.extendleft(s for s in going_on if s is not heir)

    def _count(self, group: Group) -> None:
        fresh = [s for sequences in group.sequences.values() for s in sequences if len(s.output_ids) == 1]
        self.stats.prompt_tokens_computed += len(group.prompt_ids) - group.cached
        if fresh:
            self.stats.prompt_tokens_cached += group.cached
            group.job.cached_tokens += group.cached

    def _flush(self) -> None:
        """Hands a step's tokens to the loop, one call for each loop."""
        out, self._out = self._out, {}
        if out:
            next(iter(out)).loop.call_soon_threadsafe(_deliver, out)

    def _fail_all(self) -> None:
        held: list[Group | Sequence] = [*self._running, *self._prefilling]
        jobs = {item.job for item in (*held, *self._waiting)}
        for item in held:
            self._free(item)
        self._running, self._prefilling, self._out = [], [], {}
        self._waiting.clear()
        for job in jobs:
            job.loop.call_soon_threadsafe(job.fail, "EngineCore encountered an issue.")


def _deliver(out: dict[Job, list[Event]]) -> None:
    for job, events in out.items():
        job.deliver(events)
