"""An engine of tiny random pairs, and the rows that it should give."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache

import numpy as np
from transformers import PreTrainedModel

from deltaserve.offset_models.engine.engine import Engine
from deltaserve.offset_models.engine.pair import Adapter, FullModel, Pair, PairHandle
from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.server.decoding.protocols import OffsetRow
from tests.support.models import VOCAB, merged, plain_logits, random_adapter, tiny_llama

Models = tuple[PreTrainedModel, PreTrainedModel]
SMALL = {"max_streams": 4, "max_len": 96, "spare_slots": 2, "threads": 1, "chunk_tokens": 16, "prefix_block": 8}


def full_pair(seed: int = 0, **changes: object) -> Pair:
    initial = FullModel(f"o{seed}", lambda: tiny_llama(seed))
    return Pair(initial, FullModel(f"u{seed}", lambda: tiny_llama(seed + 100)), **{"vocab_size": VOCAB, **changes})


def lora_pair(seed: int = 0, base: int = 0) -> Pair:
    adapter = Adapter(f"a{seed}", lambda model: random_adapter(model, seed))
    return Pair(FullModel(f"o{base}", lambda: tiny_llama(base)), adapter, VOCAB)


@cache
def full_models(seed: int = 0) -> Models:
    return tiny_llama(seed), tiny_llama(seed + 100)


@cache
def lora_models(seed: int = 0, base: int = 0) -> Models:
    model = tiny_llama(base)
    return tiny_llama(base), merged(model, random_adapter(model, seed))


def expected(models: Models, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(log p_o, δ) after `ids`, float64."""
    base, unlearned = (plain_logits(m, ids)[-1].double().log_softmax(-1).numpy() for m in models)
    return base, unlearned - base


def whole(row: OffsetRow) -> tuple[np.ndarray, np.ndarray]:
    ids = np.arange(row.vocab_size)
    return row.base(ids), row.offset(ids)


def assert_row(row: OffsetRow, models: Models, ids: Sequence[int], strength: float = 1.0) -> None:
    base, offset = expected(models, ids)
    np.testing.assert_allclose(whole(row)[0], base, atol=2e-4)
    np.testing.assert_allclose(whole(row)[1], strength * offset, atol=4e-4)


def ids(n: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(VOCAB), k=n)


@asynccontextmanager
async def running(*pairs: Pair, **changes: object) -> AsyncIterator[tuple[Engine, list[PairHandle]]]:
    engine = Engine(EngineSettings(**{**SMALL, **changes}))
    engine.start()
    try:
        yield engine, [await engine.add_pair(pair) for pair in pairs]
    finally:
        engine.close()
