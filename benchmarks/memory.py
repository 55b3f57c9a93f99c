"""Resident memory of deltaserve against the number of streams, and over many short requests.

python -m benchmarks.memory [--requests 5000]
"""

import argparse
import asyncio

import numpy as np

from benchmarks.support import load, report
from benchmarks.support.processes import WEIGHTS, Running, black_box, deltaserve
from deltaserve.offset_models.demo.register.questions import evaluation_questions
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

STREAMS = (1, 4, 16, 64)
CHUNKS = 20


def prompts(count: int) -> list[list[int]]:
    tokenizer = Tokenizer.load(WEIGHTS / "base")
    texts = [q.text for split in ("retain", "forget") for q in evaluation_questions(split)]
    rendered = [tokenizer.render_chat([{"role": "user", "content": texts[i % len(texts)]}]) for i in range(count)]
    return [tokenizer.encode(text, False) for text in rendered]


def ask(served: Running, wanted: list[list[int]], streams: int, max_tokens: int) -> None:
    asyncio.run(load.run(served.url, "blackbox", wanted, streams, temperature=0.0, max_tokens=max_tokens))


def by_streams(served: Running) -> list[dict[str, float]]:
    rows = []
    for streams in STREAMS:
        ask(served, prompts(4 * streams), streams, 24)
        rows.append({"streams": streams, "resident_mb": served.resident_bytes() / 1e6})
    return rows


def over_requests(served: Running, requests: int) -> list[dict[str, float]]:
    """Resident bytes after each chunk of short requests; the first chunks warm allocators and caches up."""
    size, rows = requests // CHUNKS, []
    for chunk in range(CHUNKS):
        ask(served, prompts(size), 16, 4)
        rows.append({"requests": (chunk + 1) * size, "resident_mb": served.resident_bytes() / 1e6})
    return rows


def slope_bytes(rows: list[dict[str, float]]) -> float:
    """Bytes a request, by least squares over the second half."""
    half = rows[len(rows) // 2 :]
    return float(1e6 * np.polyfit([r["requests"] for r in half], [r["resident_mb"] for r in half], 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000)
    requests = parser.parse_args().requests
    with (
        black_box() as box,
        deltaserve(box.url, "--workers", "0", "--max-streams", "64", "--max-queue", "512") as served,
    ):
        streams = by_streams(served)
        rows = over_requests(served, requests)
    report.show("by streams", list(streams[0]), [list(r.values()) for r in streams])
    report.show("over requests", list(rows[0]), [list(r.values()) for r in rows])
    found = {"bytes_per_request": slope_bytes(rows)}
    report.show("figures", ["figure", "value"], found.items())
    print(report.write("memory", found, {"requests": requests, "streams": STREAMS}, {"streams": streams, "over": rows}))


if __name__ == "__main__":
    main()
