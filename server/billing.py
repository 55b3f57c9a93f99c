"""What an answer cost at the black box, and how much of that is in no answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from deltaserve.server.upstream.cost import Cost


@dataclass(slots=True)
class Item:
    """Of one upstream."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    wasted_tokens: int = 0  # of the completion tokens, those that the answer does not have from there
    cached_tokens: int = 0  # of the prompt tokens, those that the upstream says it had in its cache


@dataclass(slots=True)
class Bill:
    """Of one answer, or of all choices of a request, by the names of upstreams."""

    items: dict[str, Item] = field(default_factory=dict)

    @classmethod
    def of(cls, costs: Mapping[str, Cost], *, kept: int) -> Self:
        """`kept`: generated tokens that the answer has; of several upstreams each has its share of them."""
        generated = sum(cost.generated_tokens for cost in costs.values())
        wasted, items = max(generated - kept, 0), {}
        for name, cost in costs.items():
            share = round(wasted * cost.generated_tokens / generated) if generated else 0
            wasted, generated = wasted - share, generated - cost.generated_tokens
            items[name] = Item(cost.calls, cost.prompt_tokens, cost.generated_tokens, share, cost.cached_tokens)
        return cls(items)

    def add(self, other: "Bill") -> None:
        for name, item in other.items.items():
            mine = self.items.setdefault(name, Item())
            mine.calls += item.calls
            mine.prompt_tokens += item.prompt_tokens
            mine.completion_tokens += item.completion_tokens
            mine.wasted_tokens += item.wasted_tokens
            mine.cached_tokens += item.cached_tokens

    @property
    def total(self) -> Item:
        """Of all upstreams together."""
        items = self.items.values()
        return Item(
            sum(item.calls for item in items),
            sum(item.prompt_tokens for item in items),
            sum(item.completion_tokens for item in items),
            sum(item.wasted_tokens for item in items),
            sum(item.cached_tokens for item in items),
        )
