"""A decoder of the Llama family in few operations, for packed batches over key/value slots.

A small model's forward costs what its tensor operations cost to start, not what they compute: q, k and v (and gate and
up) are one matrix each, adapters are applied once to each of them, and nothing has a batch axis. The same weights and
the same numbers as the transformers model, up to rounding; the model's own modules become views of the joined matrices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, rms_norm
from transformers import PreTrainedModel

from deltaserve.offset_models.engine.forward.attention import SlotBatch
from deltaserve.offset_models.engine.forward.lora import FusedLinear

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})


@dataclass(frozen=True, slots=True)
class Norm:
    """RMS norm with a weight."""

    weight: Tensor
    eps: float

    def __call__(self, hidden: Tensor) -> Tensor:
        return rms_norm(hidden, self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True, slots=True)
class Block:
    """One layer."""

    index: int
    before_attention: Norm
    qkv: FusedLinear
    head_norms: tuple[Norm, Norm] | None  # of q and k (Qwen 3)
    out: FusedLinear
    before_mlp: Norm
    gate_up: FusedLinear
    down: FusedLinear
    activation: nn.Module
    scaling: float
    window: int | None


Attention = Callable[[Block, Tensor], Tensor]  # [T, (heads + 2 kv_heads) · head_dim] -> [T, heads · head_dim]
Turn = Callable[[Block, Tensor], tuple[Tensor, Tensor, Tensor]]  # -> [T, heads | kv_heads | kv_heads, head_dim]


Gate = Callable[[Block, Tensor], Tensor]  # [T, 2 · intermediate] -> [T, intermediate]


def plain_gate(block: Block, states: Tensor) -> Tensor:
    """activation(gate) · up."""
    gate, up = states.chunk(2, dim=1)
    return block.activation(gate) * up  # type: ignore[no-any-return]


class FusedDecoder:
    """Packed ids and their places in, logits out. Raises ValueError for a model that is not of the family."""

    def __init__(self, model: PreTrainedModel, max_len: int) -> None:
        if model.config.model_type not in FAMILIES:
            raise ValueError(f"{type(model).__name__} is run by transformers.")
        inner: Any = model.model
        self.heads: int = model.config.num_attention_heads
        self.kv_heads: int = model.config.num_key_value_heads
        self._model = model
        self._norm = _norm(inner.norm)
        with torch.no_grad():
            self.blocks = [_block(i, layer, model.config) for i, layer in enumerate(inner.layers)]
            self._head = _head(model)
            self.rotation = _rotation(inner, max_len, model.dtype)

    @property
    def head_dim(self) -> int:
        return self.rotation.shape[-1]

    @property
    def vocab_rows(self) -> int:
        """Width of the logits."""
        return self._head.weight.shape[1]

    @property
    def linears(self) -> dict[str, FusedLinear]:
        """The joined matrix that each adaptable module of the model is a part of, by the module's name."""
        blocks = {
            f"model.layers.{block.index}.{name}": joined
            for block in self.blocks
            for joined in (block.qkv, block.out, block.gate_up, block.down)
            for name in joined.parts
        }
        return blocks | dict.fromkeys(self._head.parts, self._head)

    def __call__(
        self,
        token_ids: Tensor,
        attend: Attention,
        kept: Tensor | None = None,
        *,
        gate: Gate = plain_gate,
        out: Tensor | None = None,
    ) -> Tensor:
        """Logits [rows, V] at packed positions `kept` [rows] of `token_ids` [T] (None: at all), in `out` if given."""
        hidden = embedding(token_ids, self._model.get_input_embeddings().weight)  # type: ignore[arg-type]
        for block in self.blocks:
            hidden = block.out(attend(block, block.qkv(block.before_attention(hidden))), add=hidden)
            hidden = block.down(gate(block, block.gate_up(block.before_mlp(hidden))), add=hidden)
        return self._head(self._norm(hidden if kept is None else hidden.index_select(0, kept)), out)

    def over_slots(self, batch: SlotBatch) -> Attention:
        """Attention over slots, as planned in `batch`."""
        turn = self.turning(batch.positions)

        def attend(block: Block, states: Tensor) -> Tensor:
            attended = batch.attend(block.index, *turn(block, states), block.scaling, block.window)
            return attended.reshape(len(states), -1)

        return attend

    def turning(self, positions: Tensor) -> Turn:
        """Queries, keys and values of a block at `positions` [T], from what its joined matrix gives."""
        rotation = self.rotation.index_select(0, positions)
        cos, sin = rotation[:, :1], rotation[:, 1:]  # [T, 1, head_dim]

        def turn(block: Block, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            states = states.view(len(states), self.heads + 2 * self.kv_heads, -1)
            turning, values = states[:, : -self.kv_heads], states[:, -self.kv_heads :]
            if block.head_norms is not None:
                normed = zip(block.head_norms, (turning[:, : self.heads], turning[:, self.heads :]), strict=True)
                turning = torch.cat([norm(part) for norm, part in normed], dim=1)
            half = turning.shape[2] // 2
            turned = torch.addcmul(turning * cos, turning.roll(half, -1), sin)
            return turned[:, : self.heads], turned[:, self.heads :], values

        return turn


def _block(index: int, layer: Any, config: Any) -> Block:
    attention, mlp = layer.self_attn, layer.mlp
    named = {f"self_attn.{name}": getattr(attention, name) for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
    named |= {f"mlp.{name}": getattr(mlp, name) for name in ("gate_proj", "up_proj", "down_proj")}

    def join(*names: str) -> FusedLinear:
        return FusedLinear({name: named[name] for name in names})

    norms = (_norm(attention.q_norm), _norm(attention.k_norm)) if config.model_type == "qwen3" else None
    window = config.sliding_window if config.model_type == "mistral" else getattr(attention, "sliding_window", None)
    return Block(
        index=index,
        before_attention=_norm(layer.input_layernorm),
        qkv=join("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        head_norms=norms,
        out=join("self_attn.o_proj"),
        before_mlp=_norm(layer.post_attention_layernorm),
        gate_up=join("mlp.gate_proj", "mlp.up_proj"),
        down=join("mlp.down_proj"),
        activation=mlp.act_fn,
        scaling=attention.scaling,
        window=window,
    )


def _head(model: PreTrainedModel) -> FusedLinear:
    """The output matrix; where the input embedding is tied to it, that stays the same memory."""
    head: Any = model.lm_head
    table: Any = model.get_input_embeddings()
    tied = table.weight is head.weight
    joined = FusedLinear({"lm_head": head})
    if tied:
        table.weight = head.weight
    return joined


def _norm(module: Any) -> Norm:
    return Norm(module.weight, module.variance_epsilon)


def _rotation(inner: Any, max_len: int, dtype: torch.dtype) -> Tensor:
    """cos and signed sin of every position, [max_len, 2, head_dim]; x·cos + roll(x, d/2)·sin turns x by it."""
    positions = torch.arange(max_len, device=inner.norm.weight.device)[None]
    cos, sin = inner.rotary_emb(torch.empty(0, dtype=torch.float32, device=positions.device), positions)
    half = sin.shape[-1] // 2
    signed = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
    return torch.stack((cos[0], signed[0]), dim=1).to(dtype)
