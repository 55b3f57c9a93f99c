"""The registry over the real engine, with models of toy size."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.pack import write_full_checkpoint, write_lora_checkpoint
from deltaserve.offset_models.engine.engine import Engine
from deltaserve.offset_models.engine.pair_engine import PairEngine
from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.offset_models.files.digests import model_digest
from deltaserve.offset_models.registry.registry import Registry
from deltaserve.offset_models.registry.version import Version
from deltaserve.offset_models.registry.weights import WeightsPool
from deltaserve.server.decoding.protocols import Floats
from tests.support.models import plain_logits, tiny_llama
from tests.support.vocabularies import byte_level

pytestmark = pytest.mark.anyio

PROMPT = [5, 6, 7, 8]
ROWS = 352  # some more than the tokenizer has ids
Tensors = dict[str, torch.Tensor]


def model_folder(folder: Path, seed: int) -> Path:
    tiny_llama(seed, vocab_size=ROWS).save_pretrained(folder)
    return byte_level(folder)


def adapter(seed: int, scale: float = 0.2) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    names = [f"base_model.model.model.layers.{layer}.self_attn.q_proj" for layer in range(3)]
    down = {f"{name}.lora_A.weight": torch.randn(2, 32, generator=generator) for name in names}
    return down | {f"{name}.lora_B.weight": scale * torch.randn(32, 2, generator=generator) for name in names}


def head_update() -> Tensors:
    generator = torch.Generator().manual_seed(9)
    name = "base_model.model.lm_head"
    return {
        f"{name}.lora_A.weight": torch.randn(2, 32, generator=generator),
        f"{name}.lora_B.weight": 0.2 * torch.randn(ROWS, 2, generator=generator),
    }


def write_lora(
    root: Path, name: str, tensors: Tensors, targets: Sequence[str] = ("q_proj",), base: str = "base"
) -> None:
    folder = root.parent / f"adapter-{name}"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": list(targets)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")
    write_lora_checkpoint(
        root / name,
        name=name,
        adapter_folder=folder,
        base_folder=root / base,
        base_name="toy",
        base_path=f"../{base}",
        method="idk",
        licence="Apache-2.0",
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("real") / "offsets"
    model_folder(root / "base", 0)
    write_lora(root, "one", adapter(1))
    write_lora(root, "two", adapter(2))
    whole = adapter(3)
    write_lora(root, "missing", dict(list(whole.items())[1:]))
    write_lora(root, "extra", whole | {"base_model.model.lm_head.lora_A.weight": torch.ones(2, 32)})
    write_lora(root, "head", whole | head_update(), ["q_proj", "lm_head"])
    quantised = model_folder(root / "quantised", 0)
    config = json.loads((quantised / "config.json").read_text())
    (quantised / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
    write_lora(root, "on-quantised", whole, base="quantised")
    write_lora(root, "faint", {name: tensor * 1e-9 for name, tensor in whole.items()})
    write_full_checkpoint(
        root / "full",
        name="full",
        initial_folder=root / "base",
        unlearned_folder=model_folder(root.parent / "u", 1),
        method="divergence",
        licence="Apache-2.0",
    )
    return root


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine(EngineSettings(max_streams=2, max_len=32, spare_slots=0, threads=1))
    engine.start()
    yield engine
    await asyncio.to_thread(engine.close)


@pytest.fixture
async def registry(root: Path, engine: Engine, tmp_path: Path) -> AsyncIterator[Registry]:
    registry = Registry(WeightsPool(PairEngine(engine), root), root=root, served="toy", folder=tmp_path)
    await registry.start("one")
    yield registry
    await registry.close()


async def offsets(version: Version) -> Floats:
    session = await version.open(5.0)
    try:
        row = await session.row(PROMPT)
        return row.offset(np.arange(version.tokenizer.vocab_size))
    finally:
        session.close()


async def test_a_lora_checkpoint_is_served_at_its_strength(registry: Registry) -> None:
    whole = await offsets(registry.resolve("toy"))
    assert np.abs(whole).max() > 0.01
    await registry.set_strength("one", 0.5)
    np.testing.assert_allclose(await offsets(registry.resolve("toy")), 0.5 * whole, atol=1e-5)


async def test_a_sum_of_two_is_the_sum_of_their_offsets(registry: Registry) -> None:
    await registry.load("two", "two")
    both = await registry.sum("both", {"one": None, "two": 2.0})
    expected = await offsets(registry.resolve("toy@one")) + 2 * await offsets(registry.resolve("toy@two"))
    np.testing.assert_allclose(await offsets(both), expected, atol=1e-4)


async def test_a_full_checkpoint_gives_the_difference_of_its_two_models(registry: Registry) -> None:
    version = await registry.load("full", "full")
    known = version.tokenizer.vocab_size
    o, u = (plain_logits(tiny_llama(s, vocab_size=ROWS), PROMPT)[-1, :known].log_softmax(-1) for s in (0, 1))
    np.testing.assert_allclose(await offsets(version), (u - o).numpy(), atol=1e-4)


async def test_an_initial_model_equal_to_a_shared_base_is_loaded_once(root: Path, registry: Registry) -> None:
    assert model_digest(root / "base") == model_digest(root / "full" / "initial")
    before = registry.memory_bytes
    version = await registry.load("full", "full")
    assert version.memory_bytes < before  # one new model, not two


@pytest.mark.parametrize(
    ("name", "reason"), [("missing", "lacks"), ("extra", "has the unexpected"), ("faint", "offset of zero")]
)
async def test_adapters_that_do_not_fit_are_refused_and_leave_nothing(
    registry: Registry, name: str, reason: str
) -> None:
    before = registry.memory_bytes
    with pytest.raises(BadCheckpoint, match=reason):
        await registry.load(name, name)
    assert registry.memory_bytes == before
    assert [card[0] for card in registry.cards()] == ["toy"]
    await offsets(registry.resolve("toy"))


async def test_unloading_frees_the_engine(registry: Registry, engine: Engine) -> None:
    await registry.load("two", "two", activate=True)
    session = await registry.resolve("toy@one").open(5.0)
    await registry.unload("one")
    assert len(engine._pairs) == 2
    await session.row(PROMPT)
    session.close()
    await registry._pool.settle()
    assert len(engine._pairs) == 1
    await offsets(registry.resolve("toy"))


async def test_weights_that_do_not_fit_their_configuration_are_refused(root: Path, registry: Registry) -> None:
    cut = model_folder(root.parent / "cut", 4)
    model = tiny_llama(4, vocab_size=ROWS)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    del state["model.layers.1.mlp.down_proj.weight"]
    save_file(state, cut / "model.safetensors", {"format": "pt"})
    write_full_checkpoint(
        root / "cut", name="cut", initial_folder=root / "base", unlearned_folder=cut, method="x", licence="MIT"
    )
    with pytest.raises(BadCheckpoint, match=r"missing keys, first model\.layers\.1\.mlp\.down_proj\.weight"):
        await registry.load("cut", "cut")


async def test_an_adapter_on_the_head_is_served_by_pefts_arithmetic(registry: Registry) -> None:
    version = await registry.load("head", "head")
    known, right = version.tokenizer.vocab_size, tiny_llama(0, vocab_size=ROWS)
    with torch.no_grad():
        for name, half in (adapter(3) | head_update()).items():  # W + (alpha / r)·B·A
            if name.endswith("lora_A.weight"):
                layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                other = (adapter(3) | head_update())[name.replace("lora_A", "lora_B")]
                right.get_submodule(layer).weight += 2.0 * other @ half  # type: ignore[operator]
    o, u = (plain_logits(m, PROMPT)[-1, :known].log_softmax(-1) for m in (tiny_llama(0, vocab_size=ROWS), right))
    np.testing.assert_allclose(await offsets(version), (u - o).numpy(), atol=1e-4)


async def test_an_adapter_whose_layer_is_not_run_is_refused_while_others_are_served(
    registry: Registry, engine: Engine
) -> None:
    (model,) = engine._store.models.values()
    before = await offsets(registry.resolve("toy"))
    del model.runner.adapters._sites["lm_head"]  # it is hooked now, and the fused decoder does not call it
    held = registry.memory_bytes
    with pytest.raises(BadCheckpoint, match="changes lm_head"):
        await registry.load("head", "head")
    assert registry.memory_bytes == held and len(model.adapters) == 1
    np.testing.assert_array_equal(await offsets(registry.resolve("toy")), before)


async def test_a_quantised_base_fails_its_load_in_one_sentence_that_is_audited(registry: Registry) -> None:
    with pytest.raises(BadCheckpoint, match=r"quantised is quantised \(quantization_config: awq\)"):
        await registry.load("q", "on-quantised")
    await said_and_audited(registry, "quantization_config: awq")


@pytest.mark.parametrize("kind", [ImportError, MemoryError, RecursionError, BaseException])
async def test_what_another_library_raises_fails_the_load_in_one_sentence_that_is_audited(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def raising(*_: object, **__: object) -> None:
        raise kind("of the library's own")

    places = ("checkpoints.model_files.AutoModelForCausalLM.from_pretrained", "checkpoints.peft_files.load_file")
    for place in (*places, "engine.forward.runner.KVSlots"):
        with monkeypatch.context() as patch:
            patch.setattr(f"deltaserve.offset_models.{place}", raising)
            name = "two" if "peft_files" in place else "full"
            with pytest.raises(BadCheckpoint):
                await registry.load("q", name)
        await said_and_audited(registry, "")
    assert (await registry.load("q", "two")).name == "q"  # and the next one is loaded


async def said_and_audited(registry: Registry, reason: str) -> None:
    (failed,) = [row for row in registry.describe() if row["name"] == "q"]
    assert failed["state"] == "failed" and reason in failed["reason"]
    assert "A defect" not in failed["reason"] and "Traceback" not in failed["reason"] and "\n" not in failed["reason"]
    assert registry.audit is not None
    newest = registry.audit.page(1, None).records[0]
    assert (newest["action"], newest["version"], newest["result"]) == ("load", "q", "failed")
    assert newest["reason"] == failed["reason"]
