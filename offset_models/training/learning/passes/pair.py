"""The pair's logits at answer positions with the black box's list: what log p, log q and log u are made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from deltaserve.offset_models.training.learning.distribution import DensePositions, Positions, corrected
from deltaserve.offset_models.training.learning.passes.fused import (
    Corrected,
    Divergences,
    TokenLogprobs,
    Vocabulary,
    slices,
)
from deltaserve.offset_models.training.learning.passes.tail import Imputed


@dataclass(frozen=True, slots=True)
class ModelLogprobs:
    """What the three models say at some positions, before any correction: [n, V] each; −∞ for ids that are no token."""

    log_p: Tensor  # the black box, tail imputed; constant
    log_o: Tensor  # constant
    log_u: Tensor
    own_divergence: Tensor | None = None  # [n] as `divergence`, where these tables do not tell it

    @property
    def divergence(self) -> Tensor:
        """KL(p_u ‖ p_o) [n] in nats: what a gate is held against."""
        if self.own_divergence is not None:
            return self.own_divergence
        nats: Tensor = torch.linalg.vecdot(self.log_u.exp(), self.offset)
        return nats

    @property
    def offset(self) -> Tensor:
        """δ [n, V]; 0 for rows that are no token."""
        return (self.log_u - self.log_o).nan_to_num(nan=0.0)

    def corrected(self, strength: float, gate_nats: float) -> Tensor:
        """log q [n, V] as it is served."""
        return corrected(self.log_p, self.log_o, self.log_u, strength, gate_nats, self.own_divergence)


@dataclass(frozen=True, slots=True)
class Pair:
    """Of rows that went through the models together."""

    unlearned: Tensor  # z_u [n, V], in what the model computes in
    initial: Tensor  # z_o [n, V], constant
    imputed: Imputed
    vocabulary: Vocabulary
    targets: Tensor  # [n]
    sequences: Tensor  # [n]
    after_misread: Tensor  # [n] whether something before it in the answer was read wrong
    divergence: Tensor | None = None  # [n] of the pair's own tokens, where these are not the black box's

    def logprobs(self, at: slice = slice(None)) -> ModelLogprobs:
        """Written out, for the positions `at`."""
        initial, unlearned = self._known(self.initial[at]), self._known(self.unlearned[at])
        log_p = initial.clone()
        self.imputed.fill(log_p, at)
        own = None if self.divergence is None else self.divergence[at]
        log_p, log_o, log_u = (table.log_softmax(1) for table in (self._known(log_p), initial, unlearned))
        return ModelLogprobs(log_p, log_o, log_u, own)

    def parts(self) -> Iterator[tuple[ModelLogprobs, Tensor]]:
        """All positions in order, a few at a time, with their targets."""
        for at in slices(len(self.targets)):
            yield self.logprobs(at), self.targets[at]

    def corrected(self, strength: float) -> Corrected:
        return Corrected(self.vocabulary, self.initial, self.imputed, strength)

    def _known(self, logits: Tensor) -> Tensor:
        """float32, −∞ for ids that are no token."""
        none = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
        if self.vocabulary.size is not None:
            none[self.vocabulary.size :] = True
        none[list(self.vocabulary.masked)] = True
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).masked_fill(none, -torch.inf)


class PairPositions(Positions):
    """Positions that take only what a loss asks for to its numbers; whole tables are written out on demand."""

    def __init__(self, pairs: Sequence[Pair], strength: float, gate_nats: float = 0.0) -> None:
        self._pairs, self._strength, self._gate_nats = pairs, strength, gate_nats
        self.targets = torch.cat([pair.targets for pair in pairs])
        self.sequences = torch.cat([pair.sequences for pair in pairs])
        self.after_misread = torch.cat([pair.after_misread for pair in pairs])
        self._seen: Tensor | None = None  # log q(y*), a by-product that has no gradient

    @cached_property
    def answer_log_q(self) -> Tensor:
        return self._answers()

    @property
    def answers_seen(self) -> Tensor:
        """log q(y*) [n] without a gradient: what an earlier question brought along, where there was one."""
        if "answer_log_q" in self.__dict__:
            return self.answer_log_q.detach()
        if self._seen is None:
            with torch.no_grad():
                self._seen = self._answers()
        return self._seen

    def _answers(self) -> Tensor:
        if self._gate_nats:
            return self.log_q.gather(1, self.targets[:, None]).squeeze(1)
        return torch.cat([self._token(pair, pair.targets, corrected=True) for pair in self._pairs])

    @cached_property
    def answer_log_u(self) -> Tensor:
        return torch.cat([self._token(pair, pair.targets, corrected=False) for pair in self._pairs])

    @cached_property
    def answer_log_p(self) -> Tensor:
        return torch.cat([_log_p_at(pair, pair.targets) for pair in self._pairs])

    @cached_property
    def divergence(self) -> Tensor:
        if self._gate_nats:
            return DensePositions(self.log_p, self.log_q, self.log_u, self.targets, self.sequences).divergence
        ask: Any = Divergences.apply  # torch does not say what it gives
        found = [ask(pair.unlearned, pair.targets, pair.corrected(self._strength)) for pair in self._pairs]
        self._seen = torch.cat([answers for _, answers in found])
        return torch.cat([nats for nats, _ in found])

    def log_u_of(self, token_id: int) -> Tensor:
        return torch.cat(
            [self._token(pair, torch.full_like(pair.targets, token_id), corrected=False) for pair in self._pairs]
        )

    @cached_property
    def log_p(self) -> Tensor:
        return torch.cat([tables.log_p for tables in self._tables])

    @cached_property
    def log_u(self) -> Tensor:
        return torch.cat([tables.log_u for tables in self._tables])

    @cached_property
    def log_q(self) -> Tensor:
        return torch.cat([tables.corrected(self._strength, self._gate_nats) for tables in self._tables])

    @cached_property
    def _tables(self) -> list[ModelLogprobs]:
        return [pair.logprobs() for pair in self._pairs]

    def _token(self, pair: Pair, tokens: Tensor, *, corrected: bool) -> Tensor:
        by = pair.corrected(self._strength) if corrected else None
        ask: Any = TokenLogprobs.apply
        found: Tensor = ask(pair.unlearned, tokens, pair.vocabulary, by)
        return found


@torch.no_grad()
def _log_p_at(pair: Pair, tokens: Tensor) -> Tensor:
    """log p̂ at one token of each row [n]."""
    listed = pair.imputed.ids == tokens[:, None]
    of_tail = pair.initial.gather(1, tokens[:, None]).squeeze(1).float() + pair.imputed.shift
    of_list = pair.imputed.logprobs.masked_fill(~listed, -torch.inf).amax(1)
    return torch.where(listed.any(1), of_list.to(of_tail.dtype), of_tail)
