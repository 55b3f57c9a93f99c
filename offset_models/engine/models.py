"""The models and adapters that an engine holds, each once however many pairs use it."""

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import cast

import torch
from torch import Tensor, nn

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.lora_weights import AdapterWeights
from deltaserve.offset_models.engine.forward.paged.pages import PagedKV
from deltaserve.offset_models.engine.forward.prefix import SlotPool
from deltaserve.offset_models.engine.forward.proof import Proof, probe_ids, prove
from deltaserve.offset_models.engine.forward.runner import Runner
from deltaserve.offset_models.engine.host_memory import give_back
from deltaserve.offset_models.engine.pair import Adapter, FullModel, Pair, PairHandle
from deltaserve.offset_models.engine.settings import EngineSettings


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A runner with its slots."""

    key: str
    runner: Runner
    pool: SlotPool
    embedding_rows: int
    pairs: int = 0  # how many use it
    adapters: dict[str, "LoadedAdapter"] = field(default_factory=dict)  # by key


@dataclass(slots=True, eq=False)
class LoadedAdapter:
    number: int  # in the runner's bank
    pairs: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class LoadedPair:
    """A pair whose members are in memory."""

    handle: PairHandle
    pair: Pair
    initial: LoadedModel
    unlearned: LoadedModel  # the initial's own model for a LoRA
    adapter: int | None
    adapter_key: str | None
    nbytes: int  # what loading it added


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a worker thread has read for a pair; nothing of it runs yet."""

    pair: Pair
    models: list[LoadedModel]  # those that were not loaded before
    weights: AdapterWeights | None
    proof: Proof | None  # of the weights: what the base, as it is served, must make of them


class ModelStore:
    """`prepare` may run in any one thread at a time; everything else belongs to the engine thread."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._ids = count()
        self.models: dict[str, LoadedModel] = {}
        self.pairs: dict[PairHandle, LoadedPair] = {}

    def prepare(self, pair: Pair) -> Prepared:
        """Load what is missing. Raises BadCheckpoint for a model or an adapter that cannot be run."""
        lanes = 2 if isinstance(pair.unlearned, Adapter) else 1
        new: dict[str, LoadedModel] = {}
        for source in _sources(pair):
            if source.key not in self.models and source.key not in new:
                new[source.key] = self._load(source, lanes)
        for source in _sources(pair):
            model = self.models.get(source.key) or new[source.key]
            _require_rows(model, pair)
        weights, proof = None, None
        if isinstance(pair.unlearned, Adapter):
            base = (self.models.get(pair.initial.key) or new[pair.initial.key]).runner.model
            weights = pair.unlearned.load(base)
            proof = prove(base, weights, probe_ids(pair.vocab_size, pair.masked_ids, self._settings.max_len))
        return Prepared(pair, list(new.values()), weights, proof)

    def rehearse(self, prepared: Prepared) -> tuple[Tensor, set[str]]:
        """The proof's batch as it will be served; the adapter is there for that long only. Raises BadCheckpoint."""
        models = {model.key: model for model in prepared.models} | self.models
        runner = models[prepared.pair.initial.key].runner
        if prepared.proof is None or prepared.weights is None:
            raise ValueError("Only an adapter is rehearsed.")
        try:
            adapter = runner.adapters.add(prepared.weights)
            try:
                return runner.rehearse(prepared.proof.works(adapter))
            finally:
                runner.adapters.remove(adapter)
        except ValueError as error:
            raise BadCheckpoint(f"The adapter cannot be run on its base: {error}") from error

    def install(self, prepared: Prepared) -> LoadedPair:
        """Make a prepared pair runnable; where there is no memory for the adapter, nothing of it stays."""
        pair, added = prepared.pair, sum(model.runner.nbytes for model in prepared.models)
        models = self.models | {model.key: model for model in prepared.models}
        initial, adapter = models[pair.initial.key], None
        unlearned = initial if isinstance(pair.unlearned, Adapter) else models[pair.unlearned.key]
        if prepared.weights is not None:
            before = initial.runner.adapters.nbytes
            adapter = self._install_adapter(initial, pair.unlearned.key, prepared.weights)
            added += initial.runner.adapters.nbytes - before
        self.models = models
        for model in {initial.key: initial, unlearned.key: unlearned}.values():
            model.pairs += 1
        key = None if adapter is None else pair.unlearned.key
        for model in prepared.models:
            model.runner.warm()
        loaded = LoadedPair(PairHandle(next(self._ids)), pair, initial, unlearned, adapter, key, added)
        self.pairs[loaded.handle] = loaded
        return loaded

    def remove(self, handle: PairHandle) -> list[str]:
        """Free a pair and what only it used; returns the keys of the models that went."""
        loaded = self.pairs.pop(handle)
        if loaded.adapter_key is not None:
            self._remove_adapter(loaded.initial, loaded.adapter_key)
        gone = []
        for model in {m.key: m for m in (loaded.initial, loaded.unlearned)}.values():
            model.pairs -= 1
            if not model.pairs:
                del self.models[model.key]
                gone.append(model.key)
        del loaded, model
        gc.collect()  # modules hold reference cycles
        give_back()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return gone

    def _install_adapter(self, model: LoadedModel, key: str, weights: AdapterWeights) -> int:
        adapter = model.adapters.get(key)
        if adapter is None:
            adapter = model.adapters[key] = LoadedAdapter(model.runner.adapters.add(weights))
        adapter.pairs += 1
        return adapter.number

    def _remove_adapter(self, model: LoadedModel, key: str) -> None:
        adapter = model.adapters[key]
        adapter.pairs -= 1
        if not adapter.pairs:
            del model.adapters[key]
            model.runner.adapters.remove(adapter.number)
            model.pool.forget_key(key)

    def _load(self, source: FullModel, lanes: int) -> LoadedModel:
        settings = self._settings
        slots = lanes * settings.max_streams + settings.spare_slots
        try:
            runner = Runner(
                source.load(),
                slots,
                settings.max_len,
                settings.device,
                settings.torch_dtype,
                compile_model=settings.compile_model,
            )
        except ValueError as error:
            raise BadCheckpoint(str(error)) from error
        pool = SlotPool(slots, settings.prefix_block, runner.kv)
        if isinstance(runner.kv, PagedKV):
            runner.kv.spare = pool.spare
        return LoadedModel(source.key, runner, pool, _embedding_rows(runner))


def _sources(pair: Pair) -> Iterator[FullModel]:
    yield pair.initial
    if isinstance(pair.unlearned, FullModel):
        yield pair.unlearned


def _embedding_rows(runner: Runner) -> int:
    return cast(nn.Embedding, runner.model.get_input_embeddings()).num_embeddings


def _require_rows(model: LoadedModel, pair: Pair) -> None:
    if min(model.runner.vocab_rows, model.embedding_rows) < pair.vocab_size:
        raise BadCheckpoint(
            f"The tokenizer has {pair.vocab_size} ids and a model of the pair only {model.runner.vocab_rows} rows."
        )
