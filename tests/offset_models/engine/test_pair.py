"""What pairs share is loaded once and freed with its last user."""

import pytest
import torch
from transformers import PreTrainedModel

from deltaserve.offset_models.checkpoints.lora_weights import AdapterWeights
from deltaserve.offset_models.engine.models import ModelStore
from deltaserve.offset_models.engine.pair import Adapter, FullModel, Pair
from deltaserve.offset_models.engine.settings import EngineSettings
from tests.support.models import VOCAB, random_adapter, tiny_llama


class Sources:
    """Counts what is loaded."""

    def __init__(self) -> None:
        self.loads: list[str] = []

    def model(self, key: str) -> FullModel:
        def load() -> PreTrainedModel:
            self.loads.append(key)
            return tiny_llama()

        return FullModel(key, load)

    def adapter(self, key: str) -> Adapter:
        def load(base: torch.nn.Module) -> AdapterWeights:
            self.loads.append(key)
            return random_adapter(tiny_llama())

        return Adapter(key, load)


@pytest.fixture
def store() -> ModelStore:
    torch.set_num_threads(1)
    return ModelStore(EngineSettings(max_streams=3, max_len=16, spare_slots=1))


def test_equal_keys_are_one_model_and_one_adapter(store: ModelStore) -> None:
    sources = Sources()
    first = store.install(store.prepare(Pair(sources.model("o"), sources.adapter("a"), VOCAB)))
    twin = store.install(store.prepare(Pair(sources.model("o"), sources.adapter("a"), VOCAB)))
    full = store.install(store.prepare(Pair(sources.model("o"), sources.model("u"), VOCAB)))
    assert sources.loads == ["o", "a", "a", "u"]  # adapter files are read again, but installed once
    assert first.initial is first.unlearned is twin.initial is full.initial
    assert first.adapter == twin.adapter
    assert twin.nbytes == 0
    assert store.remove(first.handle) == []
    assert first.adapter_key in store.models["o"].adapters
    store.remove(twin.handle)
    assert not store.models["o"].adapters
    assert sorted(store.remove(full.handle)) == ["o", "u"]


def test_a_base_that_runs_with_adapters_has_two_slots_for_each_stream(store: ModelStore) -> None:
    sources = Sources()
    lora = store.install(store.prepare(Pair(sources.model("o"), sources.adapter("a"), VOCAB)))
    full = store.install(store.prepare(Pair(sources.model("p"), sources.model("q"), VOCAB)))
    assert [len(model.pool.slots) for model in (lora.initial, full.initial, full.unlearned)] == [7, 4, 4]


def test_a_pair_of_one_model_with_itself_has_no_offset(store: ModelStore) -> None:
    sources = Sources()
    pair = store.install(store.prepare(Pair(sources.model("o"), sources.model("o"), VOCAB)))
    assert pair.initial is pair.unlearned
    assert sources.loads == ["o"]


@pytest.mark.parametrize("field", ["max_streams", "max_len", "chunk_tokens", "threads"])
def test_settings_refuse_bounds_that_are_not_positive(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        EngineSettings(**{field: 0})
