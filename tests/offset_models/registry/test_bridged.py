"""Offsets of another tokenizer than the black box's."""

from pathlib import Path

import pytest

from deltaserve.errors import BadCheckpoint, BadRequest
from deltaserve.offset_models.bridge.bridges import Bridges
from deltaserve.offset_models.registry.registry import Registry
from deltaserve.offset_models.registry.weights import WeightsPool
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.offsets import BookkeepingEngine, lora_checkpoint
from tests.support.vocabularies import byte_level, sentencepiece_like

pytestmark = pytest.mark.anyio


def registry_behind(box: Tokenizer, root: Path, engine: BookkeepingEngine) -> Registry:
    for seed, name in enumerate(("a", "b"), 1):
        lora_checkpoint(root, name, seed)
    pool = WeightsPool(engine, root, bridges=Bridges(box, root.parent / "tables"))
    return Registry(pool, root=root, served="toy")


async def test_requests_are_in_the_black_boxes_ids_and_the_pair_is_asked_at_strength_1(tmp_path: Path) -> None:
    box, engine = Tokenizer.load(sentencepiece_like(tmp_path / "box")), BookkeepingEngine()
    registry = registry_behind(box, tmp_path / "root", engine)
    await registry.start("a", 2.0)
    version = registry.resolve(None)
    assert version.tokenizer is box
    assert version.pair_tokenizer is not None
    assert version.pair_tokenizer.fingerprint.ids != box.fingerprint.ids
    (await version.open(1.0, [5])).close()
    assert engine.opened[-1] == [(1, 1.0)]
    assert engine.sessions == 0
    assert len(list((tmp_path / "tables").iterdir())) == 1
    await registry.close()


async def test_a_sum_of_such_offsets_is_one_stream_with_a_session_for_each(tmp_path: Path) -> None:
    box, engine = Tokenizer.load(sentencepiece_like(tmp_path / "box")), BookkeepingEngine()
    registry = registry_behind(box, tmp_path / "root", engine)
    await registry.start("a", None)
    await registry.load("b", "b")
    await registry.sum("both", {"a": 2.0, "b": None})
    opened = await registry.resolve("toy@both").open(1.0, [5])
    assert engine.opened[-2:] == [[(1, 1.0)], [(2, 1.0)]]
    assert opened._session._strengths == [2.0, 1.0]  # type: ignore[attr-defined]
    opened.close()
    assert engine.sessions == 0
    await registry.close()


async def test_offsets_that_are_bridged_in_different_ways_are_not_summed(tmp_path: Path) -> None:
    box, engine = Tokenizer.load(sentencepiece_like(tmp_path / "box")), BookkeepingEngine()
    registry = registry_behind(box, tmp_path / "root", engine)
    await registry.start("a", None)
    await registry.load("b", "b")
    versions = [version for _, _, version in registry.cards() if version is not None]
    parts = tuple(version.spec.parts[0] for version in versions)
    saved = registry._builder.spec("both", 1.0, parts)
    versions[-1].weights[0].bridge = None  # as if its ends were others
    with pytest.raises(BadRequest, match="must share one tokenizer"):
        await registry.sum("both", {"a": None, "b": None})
    assert registry._builder.if_loaded(saved) is None
    with pytest.raises(BadCheckpoint, match="must share one tokenizer"):
        await registry._builder.build(saved)
    await registry.close()


async def test_an_offset_with_the_black_boxes_own_tokenizer_is_served_as_ever(tmp_path: Path) -> None:
    box, engine = Tokenizer.load(byte_level(tmp_path / "box")), BookkeepingEngine()
    registry = registry_behind(box, tmp_path / "root", engine)
    await registry.start("a", 2.0)
    version = registry.resolve(None)
    assert version.pair_tokenizer is None
    (await version.open(1.0)).close()
    assert engine.opened[-1] == [(1, 2.0)]
    await registry.close()
