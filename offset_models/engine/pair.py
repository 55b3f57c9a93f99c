"""An offset pair: the initial and the unlearned small model, as sources that the engine loads when it needs them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from deltaserve.offset_models.checkpoints.lora_weights import AdapterWeights


@dataclass(frozen=True, slots=True)
class FullModel:
    """A whole decoder. Sources with equal keys are one model: loaded once, run once per batch, prefixes shared."""

    key: str  # digest of the weights
    load: Callable[[], PreTrainedModel]  # called in a worker thread, at most once while the model stays loaded


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA on the pair's initial model."""

    key: str  # digest of the adapter's weights and configuration
    load: Callable[[nn.Module], AdapterWeights]  # gets the base, to check names and shapes; raises BadCheckpoint


@dataclass(frozen=True, slots=True)
class Pair:
    """(o, u): offset δ = log p_u − log p_o over the ids that the shared tokenizer has.

    Rows of the models at or beyond `vocab_size`, and `masked_ids` below it, are removed before the normalisation.
    """

    initial: FullModel
    unlearned: FullModel | Adapter
    vocab_size: int  # largest id of the tokenizer + 1
    masked_ids: tuple[int, ...] = ()
    gate_nats: float = 0.0  # δ is 0 at positions where KL(p_u ‖ p_o) is below this


@dataclass(frozen=True, slots=True)
class PairHandle:
    """Names a pair that is loaded in an engine."""

    id: int
