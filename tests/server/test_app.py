"""The app as it is started: both sides built from settings, a black box that comes late, draining."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import openai
import pytest
from safetensors.numpy import save_file

from deltaserve.errors import UncorrectableUpstream, UpstreamUnreachable
from deltaserve.offset_models.checkpoints.pack import write_lora_checkpoint
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.app import Build, create_app
from deltaserve.server.serving.ports import Backends, Registry
from deltaserve.server.settings import Settings
from tests.support.app import FlatVersion, OneVersion, ScriptedBlackBox, byte_tokenizer, eventually, running_app, serve
from tests.support.blackbox import blackbox, make_model

HIDDEN = 32


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def adapter(folder: Path) -> Path:
    """A random LoRA in peft's layout that changes answers clearly."""
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "o_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    noise = np.random.default_rng(3)
    tensors = {}
    for layer in range(2):
        for name in ("q_proj", "o_proj"):
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{prefix}.lora_A.weight"] = noise.normal(size=(2, HIDDEN)).astype(np.float32)
            tensors[f"{prefix}.lora_B.weight"] = noise.normal(size=(HIDDEN, 2)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def checkpoint(root: Path) -> Path:
    make_model(root / "base", seed=5)
    write_lora_checkpoint(
        root / "forget", name="forget", adapter_folder=adapter(root / "adapter"), base_folder=root / "base",
        base_name="tiny-base", base_path="../base", method="idk", licence="Apache-2.0",
    )  # fmt: skip
    return root / "forget"


def said(client: openai.OpenAI, prompt: str, model: str) -> str:
    return client.completions.create(model=model, prompt=prompt, temperature=0, max_tokens=24).choices[0].text


def test_the_real_parts_serve_corrected_tokens_over_http(tmp_path: Path) -> None:
    root = tmp_path / "offsets"
    folder = checkpoint(root)
    prompts = ["The river runs", "Who wrote the book?", "She was born"]
    with blackbox(make_model(tmp_path / "upstream")) as upstream:
        with openai.OpenAI(base_url=f"{upstream.url}/v1", api_key="k") as original:
            before = [said(original, prompt, "tiny") for prompt in prompts]
        for strength, same in ((0.0, True), (1.0, False)):
            settings = Settings(
                upstream_url=upstream.url, offsets_root=root, offset=folder.name, base=root / "base",
                strength=strength, served_name="served", torch_threads=1, max_streams=2,
            )  # fmt: skip
            with serve(create_app(settings)) as (_, url), openai.OpenAI(base_url=f"{url}/v1", api_key="k") as client:
                assert [card.id for card in client.models.list()] == ["served"]
                assert (([said(client, prompt, "served") for prompt in prompts]) == before) is same
                answer = client.completions.create(model="served", prompt="a", max_tokens=4, n=3)
                assert str(answer.system_fingerprint).startswith("ds-forget-")
                assert httpx.get(f"{url}/health/ready").status_code == 200


class Late:
    """A black box that can be reached only from the third attempt on."""

    def __init__(self, version: FlatVersion, failures: list[Exception]) -> None:
        self.registry_made = OneVersion(version)
        self.failures = failures
        self.box = ScriptedBlackBox()

    async def registry(self, settings: Settings, stack: AsyncExitStack) -> Registry:
        return self.registry_made

    async def upstream(self, settings: Settings, registry: Registry) -> Backends:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        return Backends(self.box, registry, "tiny")


def test_a_black_box_that_comes_late_is_waited_for(tokenizer: Tokenizer) -> None:
    late = Late(FlatVersion(tokenizer), [UpstreamUnreachable("Nobody answers.")] * 9)
    app = create_app(Settings(connect_timeout_s=0.2), build=Build(late.registry, late.upstream))
    with serve(app) as (_, url):
        assert httpx.get(f"{url}/health/live").status_code == 200
        assert httpx.get(f"{url}/health/ready").status_code == 503
        refused = httpx.post(f"{url}/v1/completions", json={"prompt": "a"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        eventually(lambda: httpx.get(f"{url}/health/ready").status_code == 200)
        assert httpx.post(f"{url}/v1/completions", json={"prompt": "a"}).status_code == 200


def test_places_are_those_that_the_engine_has_once_it_is_there(tokenizer: Tokenizer) -> None:
    late = Late(FlatVersion(tokenizer), [])
    late.registry_made.max_streams = 3
    app = create_app(Settings(max_queue=2), build=Build(late.registry, late.upstream))
    with serve(app) as (_, url):
        eventually(lambda: httpx.get(f"{url}/health/ready").status_code == 200)
        asked = {"prompt": "a", "max_tokens": 1, "temperature": 1}
        assert httpx.post(f"{url}/v1/completions", json=asked | {"n": 5}).status_code == 200
        refused = httpx.post(f"{url}/v1/completions", json=asked | {"n": 6})
        assert refused.status_code == 400 and "takes 5 at a time" in refused.text


def test_a_black_box_that_cannot_be_corrected_ends_the_start(tokenizer: Tokenizer) -> None:
    late = Late(FlatVersion(tokenizer), [UncorrectableUpstream("It gives no logprobs.")])
    app = create_app(Settings(), build=Build(late.registry, late.upstream))

    async def start() -> None:
        async with app.router.lifespan_context(app):
            pass

    with pytest.raises(UncorrectableUpstream):
        asyncio.run(start())


def test_one_that_turns_out_so_later_says_why_and_stays_unready(tokenizer: Tokenizer) -> None:
    late = Late(FlatVersion(tokenizer), [UpstreamUnreachable("Nobody answers."), UncorrectableUpstream("No logprobs.")])
    app = create_app(Settings(connect_timeout_s=0.05), build=Build(late.registry, late.upstream))
    with serve(app) as (_, url):
        eventually(lambda: "No logprobs." in httpx.get(f"{url}/health/ready").text)
        assert "No logprobs." in httpx.post(f"{url}/v1/completions", json={"prompt": "a"}).text


def test_draining_refuses_new_requests_and_finishes_running_ones(tokenizer: Any) -> None:
    with running_app(tokenizer, ScriptedBlackBox(delay_s=0.02)) as app:
        body = {"model": "tiny", "prompt": "hello", "temperature": 0, "max_tokens": 20, "stream": True}
        with httpx.stream("POST", f"{app.url}/v1/completions", json=body) as running:
            assert running.status_code == 200
            app.serving.draining = True
            assert httpx.get(f"{app.url}/health/ready").status_code == 503
            assert httpx.post(f"{app.url}/v1/completions", json=body).status_code == 503
            app.server.should_exit = True
            assert b"".join(running.iter_bytes()).endswith(b"data: [DONE]\n\n")


class Silent(Late):
    """A black box that takes the connection and never says a word."""

    asked = False

    async def upstream(self, settings: Settings, registry: Registry) -> Backends:
        self.asked = True
        await asyncio.Event().wait()
        raise AssertionError("it never says a word")


def test_a_signal_ends_the_start_too(tokenizer: Tokenizer) -> None:
    silent = Silent(FlatVersion(tokenizer), [])
    app = create_app(Settings(), build=Build(silent.registry, silent.upstream))

    async def start() -> None:
        starting = asyncio.create_task(app.router.lifespan_context(app).__aenter__())
        while not silent.asked:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        app.state.serving.draining = True  # as the first signal does
        await asyncio.wait_for(starting, 10)

    asyncio.run(start())
    assert not app.state.serving.attached
