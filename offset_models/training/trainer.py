"""The training loop of an offset: u is o with a LoRA, the black box is a cache of top-k, the loss is on log q."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from offset_models.training.adapter import TrainableLora
from offset_models.training.collect import TopK
from offset_models.training.data import Sample
from offset_models.training.objectives import FORGET_LOSSES, RETAIN_LOSSES, Positions, corrected, imputed_logprobs

Scored = tuple[Sample, TopK]
Report = Callable[[int, Mapping[str, float]], None]  # step, named loss parts (nats)

ROWS_A_PASS: Final = 12


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Everything that decides the result, beside data and base."""

    steps: int
    objective: str = "idk"
    retain_loss: str = "kl"
    retain_weight: float = 1.0
    forget_batch: int = 16  # sequences a step
    retain_batch: int = 32
    learning_rate: float = 2e-3
    warm_up: int = 20
    clip: float = 1.0  # largest gradient norm
    weight_decay: float = 0.0  # of the adapter: pulls u back to o where the losses do not care
    rank: int = 16
    alpha: float = 32.0
    strength: float = 1.0
    seed: int = 0
    masked_ids: tuple[int, ...] = field(default=())  # ids below the vocabulary's size that are no token
    vocab_size: int | None = None  # rows of the model beyond it are padding; None: there are none

    def __post_init__(self) -> None:
        if self.objective not in FORGET_LOSSES or self.retain_loss not in RETAIN_LOSSES:
            raise ValueError(f"objectives: {', '.join(FORGET_LOSSES)}; retain losses: {', '.join(RETAIN_LOSSES)}")
        if min(self.steps, self.forget_batch, self.retain_batch, self.rank) < 1:
            raise ValueError("steps, batches and rank must be at least 1")


def train_offset(
    base: PreTrainedModel,
    forget: Sequence[Scored],
    retain: Sequence[Scored],
    settings: TrainingSettings,
    report: Report,
) -> TrainableLora:
    """Train a LoRA on `base` so that the corrected black box forgets. Deterministic by seed and thread count."""
    lora = TrainableLora(base, settings.rank, settings.alpha, settings.seed)
    optimiser = torch.optim.AdamW(lora.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    draw = Random(settings.seed)
    base.train(False)
    for step in range(settings.steps):
        set_rate(optimiser, step, settings)
        parts = losses(
            base,
            lora,
            draw.choices(forget, k=settings.forget_batch),
            draw.choices(retain, k=settings.retain_batch),
            settings,
        )
        optimiser.zero_grad()
        (parts["forget"] + settings.retain_weight * parts["retain"]).backward()  # type: ignore[no-untyped-call, unused-ignore]
        torch.nn.utils.clip_grad_norm_(lora.parameters(), settings.clip)
        optimiser.step()
        report(step, {name: part.item() for name, part in parts.items()})
    return lora


def losses(
    base: PreTrainedModel,
    lora: TrainableLora,
    forget: Sequence[Scored],
    retain: Sequence[Scored],
    settings: TrainingSettings,
) -> dict[str, Tensor]:
    """The two terms of one step, each from its own forward pass."""
    return {
        "forget": FORGET_LOSSES[settings.objective](positions(base, lora, forget, settings)),
        "retain": RETAIN_LOSSES[settings.retain_loss](positions(base, lora, retain, settings)),
    }


def positions(
    base: PreTrainedModel, lora: TrainableLora, batch: Sequence[Scored], settings: TrainingSettings
) -> Positions:
    """log p and log q at every answer position of a batch; sequences are numbered from the shortest on."""
    ordered = sorted(batch, key=lambda scored: len(scored[0].ids))  # like lengths together: little padding
    parts = [ordered[start : start + ROWS_A_PASS] for start in range(0, len(ordered), ROWS_A_PASS)]
    done = [_positions(base, lora, part, settings, number * ROWS_A_PASS) for number, part in enumerate(parts)]
    return Positions(
        log_p=torch.cat([part.log_p for part in done]),
        log_q=torch.cat([part.log_q for part in done]),
        targets=torch.cat([part.targets for part in done]),
        sequences=torch.cat([part.sequences for part in done]),
    )


def _positions(
    base: PreTrainedModel, lora: TrainableLora, batch: Sequence[Scored], settings: TrainingSettings, first: int
) -> Positions:
    ids, where, sequences = _answer_places([sample for sample, _ in batch])
    with torch.no_grad(), lora.disabled():
        initial = logprobs_at(base, ids, where, settings)
        log_p = imputed_logprobs(*_stack([top for _, top in batch]), initial)
    unlearned = logprobs_at(base, ids, where, settings)
    targets = torch.tensor([token for sample, _ in batch for token in sample.answer_ids])
    return Positions(log_p, corrected(log_p, initial, unlearned, settings.strength), targets, sequences + first)


def set_rate(optimiser: torch.optim.Optimizer, step: int, settings: TrainingSettings) -> None:
    """Linear warm-up, then a cosine to a twentieth."""
    done = max(0, step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    share = min(1.0, (step + 1) / max(1, settings.warm_up)) * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * share


def _answer_places(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Padded ids [sequences, length], flat places of the positions that predict answers [n], their sequences [n]."""
    ids = padded([sample.ids for sample in samples])
    length = ids.shape[1]
    starts = [row * length + len(sample.prompt_ids) - 1 for row, sample in enumerate(samples)]
    places = [start + i for start, sample in zip(starts, samples, strict=True) for i in range(len(sample.answer_ids))]
    sequences = [row for row, sample in enumerate(samples) for _ in sample.answer_ids]
    return ids, torch.tensor(places), torch.tensor(sequences)


def logprobs_at(model: PreTrainedModel, ids: Tensor, where: Tensor, settings: TrainingSettings) -> Tensor:
    """log-probabilities at flat places: [n, V] float32; −inf for rows that are no token."""
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)[where]
    logits: Tensor = model.lm_head(hidden).float()
    if settings.vocab_size is not None:
        logits[:, settings.vocab_size :] = -torch.inf
    if settings.masked_ids:
        logits[:, list(settings.masked_ids)] = -torch.inf
    return logits.log_softmax(1)


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Ids [rows, length], filled up on the right, where causal attention never looks."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])


def _stack(tops: Sequence[TopK]) -> tuple[Tensor, Tensor]:
    ids = torch.cat([torch.from_numpy(top.ids) for top in tops])
    return ids, torch.cat([torch.from_numpy(top.logprobs) for top in tops])
