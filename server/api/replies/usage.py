"""Token counts of one request, for its reply and for the access log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deltaserve.server.billing import Bill
from deltaserve.server.observability.records import RequestRecord


@dataclass(slots=True)
class Usage:
    """What a request has cost so far."""

    record: RequestRecord
    prompt_tokens: int
    completion_tokens: int = 0
    reasoning_tokens: int | None = None  # of the completion's; None where reasoning is not told from the answer
    tells_costs: bool = True  # calls and wasted tokens, which say where the offset acts

    def __post_init__(self) -> None:
        self.record.prompt_tokens = self.prompt_tokens

    @property
    def bill(self) -> Bill:
        """Of the black box's calls, as far as choices have ended."""
        return self.record.bill

    def add(self, tokens: int, reasoning_tokens: int = 0) -> None:
        """So many more were generated, some of them before the answer itself."""
        self.completion_tokens += tokens
        if self.reasoning_tokens is not None:
            self.reasoning_tokens += reasoning_tokens
        self.record.completion_tokens = self.completion_tokens

    def json(self) -> bytes:
        """OpenAI's counts, and under `deltaserve` what the black box was asked for."""
        total = self.prompt_tokens + self.completion_tokens
        return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d%b%b}' % (
            self.prompt_tokens,
            self.completion_tokens,
            total,
            self._details,
            self._costs,
        )

    def costs_of(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of these counts, parsed: what the black box was asked for, as a field of ours; none where it is not told."""
        return {"deltaserve": told["deltaserve"]} if self.tells_costs else {}

    @property
    def _costs(self) -> bytes:
        if not self.tells_costs:
            return b""
        cost = self.bill.total
        return (
            b',"deltaserve":{"upstream_calls":%d,"upstream_prompt_tokens":%d,"upstream_cached_tokens":%d,'
            b'"upstream_completion_tokens":%d,"upstream_wasted_tokens":%d}'
        ) % (
            cost.calls,
            cost.prompt_tokens,
            cost.cached_tokens,
            cost.completion_tokens,
            cost.wasted_tokens,
        )

    @property
    def _details(self) -> bytes:
        if self.reasoning_tokens is None:
            return b""
        return b',"completion_tokens_details":{"reasoning_tokens":%d}' % self.reasoning_tokens
