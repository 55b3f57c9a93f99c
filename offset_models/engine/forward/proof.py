"""Checks that an adapter is applied as peft applies it: the served forward is compared with a plain one.

The plain one is transformers' own, with W·x + scale·B·(A·x) (Hu et al., 2021) at every layer that the adapter names. It
shares the base's tensors and nothing else, so it may run in another thread while the base serves.
"""

from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.lora_weights import AdapterWeights, LoraWeights
from deltaserve.offset_models.engine.forward.runner import Work

MOST_IDS: Final = 8
# Largest relative error (root mean square) that rounding makes of one forward in another order of operations: a wide
# multiple of what 32 random layers showed (7e-6, 1.3e-2, 1.2e-1 at their worst). Layers that are not run at all are
# found by name; this finds those that run on the wrong rows or at another scale.
ROUNDING: Final = {torch.float32: 1e-3, torch.float16: 8e-2, torch.bfloat16: 2.5e-1}


@dataclass(frozen=True, slots=True)
class Proof:
    """What the served forward has to give for the base and for the adapter."""

    ids: Sequence[int]
    base: Tensor  # [n, V] logits of the plain model
    adapted: Tensor  # [n, V] with the adapter
    most: float  # relative error that is rounding

    def works(self, adapter: int) -> list[Work]:
        """Rows of both in one batch, fewer than tokens: where rows and tokens are mistaken for each other, it shows."""
        base_ids = self.ids[: max(1, len(self.ids) - 2)]
        rows = max(1, len(self.ids) - 1)
        return [Work(0, 0, self.ids, adapter, rows), Work(1, 0, base_ids, None, max(1, len(base_ids) - 2))]

    def judge(self, logits: Tensor, idle: set[str]) -> None:
        """Of `Runner.rehearse` over `works`. Raises BadCheckpoint."""
        _refuse_idle(idle)
        adapted, base = self.works(0)
        served = torch.split(logits, [adapted.rows, base.rows])
        wanted = [self.adapted[-adapted.rows :], self.base[: len(base.token_ids)][-base.rows :]]
        for whose, got, right in zip(("with this adapter", "without it"), served, wanted, strict=True):
            error = float((got - right).norm() / right.norm().clamp_min(torch.finfo(torch.float32).tiny))
            if not error <= self.most:  # a NaN is none
                raise BadCheckpoint(
                    f"The base's served forward {whose} is not what peft's arithmetic gives: a relative error of "
                    f"{error:.1e}, where rounding makes {self.most:.0e} at most."
                )


@torch.inference_mode()
def prove(model: PreTrainedModel, weights: AdapterWeights, ids: Sequence[int]) -> Proof:
    """The two plain forwards over `ids`. Raises BadCheckpoint for layers of the adapter that the model does not run."""
    bare = _bare(model)
    base = _logits(bare, ids)
    seen: set[str] = set()
    for name, update in weights.items():
        _adapt(cast(nn.Linear, bare.get_submodule(name)), update, name, seen)
    adapted = _logits(bare, ids)
    _refuse_idle(set(weights) - seen)
    return Proof(ids, base, adapted, ROUNDING.get(model.dtype, ROUNDING[torch.float32]))


def probe_ids(vocab_size: int, masked: Sequence[int], most: int) -> list[int]:
    """Up to eight ids from all over the vocabulary; the same ones every time."""
    known = [i for i in range(0, vocab_size, max(1, vocab_size // (2 * MOST_IDS))) if i not in set(masked)]
    return known[1 : 1 + min(MOST_IDS, most)] or [0]


def _bare(model: PreTrainedModel) -> PreTrainedModel:
    """The model once more: the same tensors, none of its hooks, transformers' plain attention."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        memo[id(module._forward_hooks)] = OrderedDict()
    bare = deepcopy(model, memo)
    bare.set_attn_implementation("eager")
    return bare


def _adapt(layer: nn.Linear, update: LoraWeights, name: str, seen: set[str]) -> None:
    def add(_module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        seen.add(name)
        a, b = (half.to(output.device, torch.float32) for half in (update.a, update.b))
        more = update.scale * linear(linear(inputs[0].float(), a), b)
        return output + more.to(output.dtype)

    layer.register_forward_hook(add)


def _logits(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    """[n, V] float32."""
    output = model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False)
    return cast(Tensor, output.logits)[0].float()


def _refuse_idle(layers: set[str]) -> None:
    if layers:
        raise BadCheckpoint(
            f"The adapter changes {min(layers)} ({len(layers)} such in all), which the base does not run as a layer of "
            "its own: the change would be lost."
        )
