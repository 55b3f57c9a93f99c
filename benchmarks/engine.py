"""Rows a second of the engine against a plain transformers loop with two models, as proxy-tuning runs them.

python -m benchmarks.engine                      the demo's pair
python -m benchmarks.engine --base FOLDER        a real base too (a random adapter beside it), for example a 0.5B model
"""

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from benchmarks.support import report
from benchmarks.support.adapters import random_adapter
from benchmarks.support.processes import WEIGHTS
from deltaserve.offset_models.checkpoints.peft_files import load_adapter
from deltaserve.offset_models.engine.engine import Engine
from deltaserve.offset_models.engine.pair import Adapter, FullModel, Pair
from deltaserve.offset_models.engine.settings import EngineSettings

STREAMS = (1, 4, 16)
PROMPT = 32
LONGEST = 400  # steps of one stream, which has 512 places
THREADS = torch.get_num_threads()


def plain_rows_per_second(base: PreTrainedModel, streams: int, steps: int) -> float:
    """Two models, one stream after the other, key/value caches kept: what a loop over `generate` does."""
    pair = (base, base)  # the unlearned member costs as much as the initial one: the same weights serve for timing
    caches: list[list[Any]] = []
    with torch.inference_mode():
        for stream in range(streams):
            prompt = torch.tensor([_prompt(stream)])
            caches.append([model(prompt, use_cache=True).past_key_values for model in pair])
        started = time.perf_counter()
        for step in range(steps):
            for kept in caches:
                logits = []
                for at, model in enumerate(pair):
                    out = model(torch.tensor([[step % 500 + 5]]), past_key_values=kept[at], use_cache=True)
                    kept[at] = out.past_key_values
                    logits.append(torch.log_softmax(out.logits[0, -1].float(), -1))
                (logits[1] - logits[0]).numpy()
        return streams * steps / (time.perf_counter() - started)


async def engine_rows_per_second(pair: Pair, streams: int, steps: int) -> float:
    """The engine, every stream asking for its next row as soon as it has the last."""
    engine = Engine(EngineSettings(max_streams=streams, max_len=512, threads=THREADS, dtype="float32"))
    engine.start()
    try:
        handle = await engine.add_pair(pair)
        sessions = [await engine.open([(handle, 1.0)], timeout_s=60) for _ in range(streams)]
        ids = [_prompt(stream) for stream in range(streams)]
        await asyncio.gather(*(s.row(own) for s, own in zip(sessions, ids, strict=True)))

        async def stream(session: Any, own: list[int]) -> None:
            for step in range(steps):
                own.append(step % 500 + 5)
                await session.row(own)

        started = time.perf_counter()
        await asyncio.gather(*(stream(s, own) for s, own in zip(sessions, ids, strict=True)))
        seconds = time.perf_counter() - started
        for session in sessions:
            session.close()
        await engine.remove_pair(handle)
        return streams * steps / seconds
    finally:
        await asyncio.to_thread(engine.close)
        gc.collect()  # a real base is gigabytes: the next turn loads it again


def _prompt(stream: int) -> list[int]:
    return [(7 * i + 13 * stream) % 1000 + 5 for i in range(PROMPT)]


def lora_pair(base: Path, adapter: Path) -> Pair:
    config = AutoModelForCausalLM.from_pretrained(base, dtype="float32").config
    return Pair(
        FullModel(str(base), lambda: AutoModelForCausalLM.from_pretrained(base, dtype="float32")),
        Adapter(str(adapter), lambda model: load_adapter(adapter, model)),
        int(config.vocab_size),
        (),
    )


def compare(name: str, base: Path, adapter: Path, steps: int, rounds: int) -> list[dict[str, Any]]:
    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    pair, rows = lora_pair(base, adapter), []
    for streams in STREAMS:
        turns = [_turn(model, pair, streams, min(max(steps // streams, 4), LONGEST)) for _ in range(rounds)]
        rows.append(
            {
                "pair": name,
                "streams": streams,
                "plain_rows_per_s": report.median(p for p, _ in turns),
                "engine_rows_per_s": report.median(e for _, e in turns),
                "ratio": report.median(e / p for p, e in turns),
            }
        )
    return rows


def _turn(model: PreTrainedModel, pair: Pair, streams: int, steps: int) -> tuple[float, float]:
    return plain_rows_per_second(model, streams, steps), asyncio.run(engine_rows_per_second(pair, streams, steps))


def _figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {f"{row['pair']}_{row['streams']}": row["ratio"] for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="folder of a real base model")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows = compare("tiny", WEIGHTS / "base", WEIGHTS / "registry-erasure" / "adapter", 640, args.rounds)
    if args.base is not None:
        with tempfile.TemporaryDirectory() as folder:
            random_adapter(args.base, Path(folder))
            rows += compare("real", args.base, Path(folder), 64, args.rounds)
    render: Callable[[dict[str, Any]], list[Any]] = lambda row: list(row.values())  # noqa: E731
    report.show("engine ÷ plain two-model loop", list(rows[0]), map(render, rows))
    print(report.write("engine", _figures(rows), {"threads": THREADS, "prompt": PROMPT}, rows))


if __name__ == "__main__":
    main()
