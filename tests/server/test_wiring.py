"""The registry and the black box as settings make them: where state lies, what is watched, what is refused."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deltaserve.errors import BadCheckpoint, BadRequest, StateFolderUnusable, UncorrectableUpstream
from deltaserve.server.observability.logs import LOGGER
from deltaserve.server.opening import _max_len
from deltaserve.server.settings import Settings
from deltaserve.server.wiring import connect_upstream, open_registry
from tests.support.blackbox import make_model
from tests.support.fake_upstream import FakeUpstream
from tests.support.replay import replaying
from tests.support.table_tokenizer import byte_tokenizer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a base and one checkpoint, and another checkpoint beside the root."""
    from benchmarks.swap.site import add_checkpoint

    root = tmp_path_factory.mktemp("made") / "offsets"
    make_model(root / "base")
    add_checkpoint(root, "one", 1)
    add_checkpoint(root, "two", 2)
    (root / "two").rename(root.parent / "two")
    return root


def settings(root: Path, **more: Any) -> Settings:
    return Settings(**{"offsets_root": root, "offset": "one", "torch_threads": 1, "max_streams": 1, **more})


async def test_without_an_admin_key_nothing_is_kept(made: Path) -> None:
    async with AsyncExitStack() as stack:
        registry: Any = await open_registry(settings(made), stack)
        assert (registry.active.name, registry.audit) == ("one", None)
    assert not (made / ".deltaserve").exists()


async def test_the_start_says_where_the_pair_runs_how_many_streams_there_are_and_why(
    made: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="deltaserve")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    for given, streams, why in (("auto", 48, "16 for each of 3 cores"), (5, 5, "as set")):
        caplog.clear()
        async with AsyncExitStack() as stack:
            registry: Any = await open_registry(settings(made, max_streams=given), stack)
            assert registry.max_streams == streams
        said = next(r.msg for r in caplog.records if isinstance(r.msg, dict) and r.msg["event"] == "engine")
        assert (said["device"], said["dtype"], said["max_streams"], said["why"]) == ("cpu", "float32", streams, why)


async def test_streams_are_as_many_as_the_memory_holds_of_the_checkpoints_base(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltaserve.offset_models.engine.devices import capacity

    base = capacity.size_of(made / "base", "cpu", "float32")
    assert base is not None
    context = 64
    monkeypatch.setattr(capacity, "free_bytes", lambda _: int((base.weights + 3.5 * 2 * context * base.position) / 0.8))
    async with AsyncExitStack() as stack:
        registry: Any = await open_registry(settings(made, max_streams="auto", max_context=context), stack)
        assert registry.max_streams == 3


async def test_a_device_that_is_not_there_is_no_start(made: Path) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(BadRequest, match="There is no device 'abacus' here"):
            await open_registry(settings(made, device="abacus"), stack)


async def test_with_one_the_state_lies_under_the_root_and_belongs_to_one_server(made: Path) -> None:
    given = settings(made, admin_key="k")
    async with AsyncExitStack() as stack:
        registry: Any = await open_registry(given, stack)
        assert registry.audit is not None and (made / ".deltaserve" / "state.json").is_file()
        async with AsyncExitStack() as other:
            with pytest.raises(StateFolderUnusable):
                await open_registry(given, other)
    async with AsyncExitStack() as stack:
        again: Any = await open_registry(given, stack)
        assert [record["action"] for record in again.audit.page(1).records] == ["restart"]


async def test_a_checkpoint_that_appears_is_loaded_and_not_activated(made: Path, tmp_path: Path) -> None:
    given = settings(made, watch_offsets=True, watch_interval_s=0.05, state_folder=tmp_path / "state")
    async with AsyncExitStack() as stack:
        registry: Any = await open_registry(given, stack)
        (made.parent / "two").rename(made / "two")
        async with asyncio.timeout(20):
            while "two" not in [card[2].name for card in registry.cards()]:  # noqa: ASYNC110  (nothing signals it)
                await asyncio.sleep(0.05)
        assert registry.active.name == "one"
        record = registry.audit.page(1).records[0]
        assert (record["action"], record["version"], record["key_id"]) == ("load", "two", "watch-folder")


class Unserved:
    """A registry of which only the tokenizer matters."""

    @asynccontextmanager
    async def pinned(self, model: str | None) -> AsyncIterator[Any]:
        yield SimpleNamespace(tokenizer=byte_tokenizer())

    async def serve_as(self, name: str) -> None: ...


async def test_a_prefix_cache_that_cannot_be_left_alone_is_no_start(tmp_path: Path) -> None:
    registry: Any = Unserved()
    async with replaying(FakeUpstream("vllm")) as replay:
        given = settings(tmp_path, upstream_url=replay.url)
        backends = await connect_upstream(given, registry)
        await backends.upstream.aclose()
        with pytest.raises(UncorrectableUpstream, match="upstream_prefix_cache"):
            await connect_upstream(given.model_copy(update={"upstream_prefix_cache": False}), registry)


async def test_names_that_nobody_tells_are_said_to_be_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    registry: Any = Unserved()
    caplog.set_level("WARNING", LOGGER)  # a server that ran in this process may have left another one
    for setting, said in (("off", False), ("always", True)):
        caplog.clear()
        async with replaying(FakeUpstream("llamacpp")) as replay:
            backends = await connect_upstream(settings(tmp_path, upstream_url=replay.url, named_ids=setting), registry)
            await backends.upstream.aclose()
        assert backends.upstream.capabilities.named_ids == 0
        assert ("ids_are_not_named" in caplog.text) == said


@pytest.mark.parametrize(
    "manifest", [{"base": "x"}, {"base": {"path": 7}}, {"base": [1]}, [], {"base": {"path": "\x00"}}]
)
async def test_a_manifest_of_another_form_is_refused_in_a_sentence(tmp_path: Path, manifest: object) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "offset.json").write_text(json.dumps(manifest))
    async with AsyncExitStack() as stack:
        with pytest.raises(BadCheckpoint, match=r"offset\.json"):
            await open_registry(settings(tmp_path), stack)


@pytest.mark.parametrize("positions", [-5, 0, True, "many", 10**30])
async def test_positions_that_are_no_number_do_not_decide_the_context(
    made: Path, tmp_path: Path, positions: object
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": positions}))
    assert _max_len(settings(made, base=tmp_path), made / "one") > 0
