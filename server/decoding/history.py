"""The text so far, as penalties and a constraint need it."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from deltaserve.server.decoding.constraints.grammar import Grammar
from deltaserve.server.decoding.constraints.holding import Held
from deltaserve.server.decoding.constraints.matching import Allowed
from deltaserve.server.decoding.constraints.words import Worded
from deltaserve.server.decoding.correction import Corrected
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import NO_IDS, Floats, Ids

FEW = 512  # allowed ids that are made explicit: with them all known one by one, nobody looks at the rest of the row


class History:
    """The text so far, as penalties and a constraint need it.

    Which ids are touched, and by how much, lies in arrays by id: a step costs a few array operations, however many
    ids a bias or a long prompt names.
    """

    def __init__(self, params: SamplingParams, prompt_ids: Sequence[int], grammar: Grammar | None = None) -> None:
        self._params = params
        self._held = _held(params, grammar)
        self._worded = None if params.words is None else Worded(params.words)
        self._repeating = params.repetition_penalty != 1.0
        self._counting = self._repeating or bool(params.presence_penalty or params.frequency_penalty)
        self._final = _id_array(params.end_ids)
        self._biased = _id_array(params.logit_bias)
        prompt = _id_array(set(prompt_ids)) if self._repeating else NO_IDS
        size = 1 + max((int(ids.max()) for ids in (self._final, self._biased, prompt) if ids.size), default=0)
        self._in_text = np.zeros(size, np.bool_)  # [n] or in the prompt of a repetition penalty
        self._in_text[prompt] = True
        self._touched = self._in_text.copy()  # [n] or biased
        self._touched[self._biased] = True
        self._additive = np.zeros(size)  # [n] bias less presence and frequency penalty
        self._additive[self._biased] = np.fromiter(params.logit_bias.values(), np.float64, self._biased.size)
        self.counts: Counter[int] = Counter()
        self.length = 0

    def fork(self) -> "History":
        """A copy that may run ahead."""
        ahead = copy(self)
        if self._held is not None:
            ahead._held = self._held.fork()
        if self._worded is not None:
            ahead._worded = self._worded.fork()
        if self._counting:  # else nothing of it changes
            ahead.counts, ahead._additive = self.counts.copy(), self._additive.copy()
            ahead._in_text, ahead._touched = self._in_text.copy(), self._touched.copy()
        return ahead

    def now_with(self, params: SamplingParams) -> None:
        """Go on with parameters that ask the same of penalties; the ids that end an answer may be others."""
        self._params, self._final = params, _id_array(params.end_ids)
        self._cover(self._final)

    def add(self, token_id: int) -> None:
        self.length += 1
        if self._held is not None:
            self._held.add(token_id, self._params.end_ids)
        if self._worded is not None:
            self._worded.add(token_id)
        if not self._counting:
            return
        self.counts[token_id] += 1
        if token_id >= self._in_text.size:
            self._grow(2 * token_id + 1)
        self._in_text[token_id] = self._touched[token_id] = True
        self._additive[token_id] = self._params.logit_bias.get(token_id, 0.0) - self._penalty(self.counts[token_id])

    def _cover(self, ids: Ids) -> None:
        if ids.size and ids.max() >= self._in_text.size:
            self._grow(int(ids.max()) + 1)

    def _grow(self, size: int) -> None:
        more = (0, size - self._in_text.size)
        self._in_text, self._touched = np.pad(self._in_text, more), np.pad(self._touched, more)
        self._additive = np.pad(self._additive, more)

    def _penalty(self, count: int) -> float:
        return count * self._params.frequency_penalty + self._params.presence_penalty

    @property
    def _banning(self) -> bool:
        """Whether ids that end the answer may not be emitted yet (`min_tokens`)."""
        return self.length < self._params.min_tokens and bool(self._final.size)

    @property
    def held(self) -> bool:
        """Whether a constraint, or words that are banned, may decide what is allowed, now or later."""
        return self._held is not None or self._worded is not None

    @property
    def void(self) -> bool:
        """Whether nothing can follow: a constrained answer is over, or what was added is not allowed."""
        return self._held is not None and self._held.void

    def allowed(self) -> Allowed | None:
        """The ids that are allowed now; None for all. Raises BadRequest where the grammar cannot go on."""
        allowed = self._within_grammar()
        return allowed if self._worded is None else self._worded.within(allowed)

    def _within_grammar(self) -> Allowed | None:
        held, params = self._held, self._params
        if held is None or not (held.begun or held.void):
            return None
        return held.allowed(params.final_ids, params.eos_ids)

    def completes(self, token_id: int) -> bool:
        """Whether nothing but the end of the answer can follow this token, which is allowed."""
        if self._held is None or not (self._held.begun or self._held.waiting):
            return False
        ahead = self._held.fork()
        ahead.add(token_id, self._params.end_ids)
        return ahead.complete or ahead.void

    def touched(self) -> Ids:
        """Ids whose weight a penalty, a bias or `min_tokens` changes now; shape [m], unique.

        Where a constraint allows few ids, these too.
        """
        touched = self._penalised()
        allowed = self.allowed()
        return touched if allowed is None or allowed.count > FEW else np.union1d(touched, allowed.ids)

    def _penalised(self) -> Ids:
        touched = self._touched
        if self._banning:
            touched = touched.copy()
            touched[self._final] = True
        elif not self._counting:
            return self._biased
        return np.flatnonzero(touched)

    def bans(self, corrected: Corrected) -> Floats | None:
        """What `min_tokens` alone adds to the weights of the explicit ids, shape [h]; None when it adds nothing."""
        return self._bans(corrected.ids) if self._banning else None

    def _bans(self, ids: Ids) -> Floats:
        return np.where(np.isin(ids, self._final), -math.inf, 0.0)

    def changes(self, ids: Ids) -> tuple[Floats, NDArray[np.bool_] | None]:
        """What is added to the weights of `ids` [h], and which of them the repetition penalty multiplies (None: none).

        Both of shape [h]. Presence and frequency penalty, bias and `min_tokens`.
        """
        known = ids < self._in_text.size
        additive = np.zeros(ids.size)
        additive[known] = self._additive[ids[known]]
        repeated = None
        if self._repeating:
            repeated = np.zeros(ids.size, np.bool_)
            repeated[known] = self._in_text[ids[known]]
        return (additive + self._bans(ids) if self._banning else additive), repeated

    def shifts(self, corrected: Corrected) -> Floats | None:
        """What penalties and bias add to the weights of the explicit ids, shape [h]; None when they add nothing."""
        if not (self._counting or self._biased.size or self._banning):
            return None
        shifts, repeated = self.changes(corrected.ids)
        if repeated is not None:
            shifts[repeated] += self._repetition(corrected)[repeated]
        return shifts

    def _repetition(self, corrected: Corrected) -> Floats:
        """What the repetition penalty adds to an id that is in the text: log q is never positive, so it multiplies."""
        log_q = corrected.log_weights - corrected.log_z
        return np.where(np.isfinite(log_q), log_q * (self._params.repetition_penalty - 1.0), 0.0)


def _held(params: SamplingParams, grammar: Grammar | None) -> Held | None:
    if params.constraint is None:
        return None
    if grammar is None:
        raise ValueError("a constrained answer without its compiled grammar")
    return Held(params.constraint, grammar)


def _id_array(ids: Collection[int]) -> Ids:
    """In the order of iteration, shape [len(ids)]."""
    return np.fromiter(ids, np.int64, len(ids))
