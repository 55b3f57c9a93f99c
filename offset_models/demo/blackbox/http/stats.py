"""Counters of one server process, shown at /stats: tests and benchmarks read from them that work stopped."""

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Stats:
    """`generation_*` and `prompt_*` are written by the engine's thread, the rest by the loop; both only ever add."""

    requests: int = 0
    prompts: int = 0
    finished_requests: int = 0
    aborted_requests: int = 0
    failed_requests: int = 0
    prompt_tokens: int = 0
    prompt_tokens_computed: int = 0
    prompt_tokens_cached: int = 0
    generation_tokens_computed: int = 0  # a paced stream is computed a little ahead of what is sent
    generation_tokens_sent: int = 0
    steps: int = 0

    def describe(self) -> dict[str, int]:
        return asdict(self)
