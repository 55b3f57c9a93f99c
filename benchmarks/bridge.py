"""What a pair of another tokenizer costs: the demo's offset served by ids, and the same one through a bridge.

python -m benchmarks.bridge             both servers in turns, kept and forgotten questions; about two minutes
python -m benchmarks.bridge --quick     two questions a row: does it run?

The bridge is to the demo's own tokenizer with its last merge written twice: ids mean the same, which no server knows.
So both servers have the same black box and the same pair, and greedy answers should be the same.
"""

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.support import report
from benchmarks.support.processes import WEIGHTS, Running, black_box, deltaserve
from deltaserve.offset_models.demo.register.questions import Split, evaluation_questions
from deltaserve.server.upstream.http.transport import Transport

PACE: Final = ("--ms-per-token", "20", "--first-token-ms", "40")
SERVE: Final = ("--max-streams", "16", "--torch-threads", "1", "--device", "cpu")
ROWS: Final = 'deltaserve_engine{counter="rows"}'
TOKENS: Final = 'deltaserve_engine{counter="tokens"}'
BATCHES: Final = 'deltaserve_engine{counter="batches"}'


@dataclass(frozen=True, slots=True)
class Case:
    """One row: which questions, and how they are asked."""

    split: Split
    temperature: float
    streams: int
    questions: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One server's answers, and what they cost it."""

    texts: list[str]
    tokens: int
    seconds: float  # of all answers, one after the other
    cost: dict[str, float]  # a token


def another(folder: Path) -> Path:
    """The demo's tokenizer with its last merge twice."""
    made = Path(shutil.copytree(WEIGHTS / "base", folder, ignore=shutil.ignore_patterns("*.safetensors")))
    content = json.loads((made / "tokenizer.json").read_text("utf-8"))
    content["model"]["merges"].append(content["model"]["merges"][-1])
    (made / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    return made


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, Running]]:
    bridged = ("--upstream-tokenizer", str(another(folder / "tokenizer")))
    with (
        black_box(*PACE) as box,
        deltaserve(box.url, *SERVE) as ids,
        deltaserve(box.url, *SERVE, *bridged) as other,
    ):
        yield {"by ids": ids, "bridged": other}


def through(server: Running, case: Case) -> Measured:
    questions = [q.text for q in evaluation_questions(case.split)][: case.questions]
    before, cpu_before = server.metrics(), server.cpu_s()
    answers = asyncio.run(_asked(server.url, questions, case))
    cpu_s, after = server.cpu_s() - cpu_before, server.metrics()
    tokens = sum(answer["tokens"] for answer in answers)
    cost = {name: (after[name] - before.get(name, 0.0)) / tokens for name in (ROWS, TOKENS, BATCHES)}
    seconds = sum(answer["seconds"] for answer in answers)
    return Measured([a["text"] for a in answers], tokens, seconds, cost | {"cpu_ms": 1e3 * cpu_s / tokens})


async def _asked(url: str, questions: Sequence[str], case: Case) -> list[dict[str, Any]]:
    transport, places = Transport(url), asyncio.Semaphore(case.streams)

    async def ask(text: str) -> dict[str, Any]:
        body = {"model": "blackbox", "messages": [{"role": "user", "content": text}], "temperature": case.temperature}
        async with places:
            started = time.perf_counter()
            answer = await transport.post_json("/v1/chat/completions", body | {"max_tokens": 48})
            seconds = time.perf_counter() - started
        choice, usage = answer["choices"][0], answer["usage"]
        return {"text": choice["message"]["content"], "tokens": usage["completion_tokens"], "seconds": seconds}

    try:
        return await asyncio.gather(*map(ask, questions))
    finally:
        await transport.aclose()


def measure(both: dict[str, Running], case: Case) -> dict[str, Any]:
    ids, bridged = (through(both[name], case) for name in ("by ids", "bridged"))
    same = sum(a == b for a, b in zip(ids.texts, bridged.texts, strict=True))
    return {
        "case": f"{case.split} T={case.temperature:g} streams={case.streams}",
        "tokens": bridged.tokens,
        "rows": bridged.cost[ROWS],
        "rows_by_ids": ids.cost[ROWS],
        "pair_tokens": bridged.cost[TOKENS] / 2,
        "batches": bridged.cost[BATCHES],
        "cpu_ms": bridged.cost["cpu_ms"],
        "cpu_ms_by_ids": ids.cost["cpu_ms"],
        "speed": bridged.tokens / bridged.seconds / (ids.tokens / ids.seconds),
        "same": same / len(ids.texts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    n = 2 if options.quick else 8
    cases = [
        Case(split, temperature, streams, n)
        for split in ("retain", "forget")
        for temperature, streams in ((0.0, 1), (1.0, 1), (0.0, 16))
    ]
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as both:
        for split in ("retain", "forget"):
            measure(both, Case(split, 0.0, 1, 1))
        rows = [measure(both, case) for case in cases]
    columns = ("case", "tokens", "rows a token", "by ids", "tokens of the pair a token", "batches a token")
    more = ("CPU ms a token", "by ids", "tokens/s ÷ by ids", "same text")
    report.show("A pair through a bridge", columns + more, [list(row.values()) for row in rows])
    report.write("bridge", {f"rows {row['case']}": row["rows"] for row in rows}, {"k": 20, "questions": n}, rows)


if __name__ == "__main__":
    main()
