"""Names and numbers as the page writes them."""

from typing import Final

SPLITS: Final = {
    "forget": "to be forgotten",
    "neighbours": "near neighbours",
    "retain": "to be kept",
    "general": "general facts",
    "code": "programming",
    "real_authors": "real authors",
    "world_facts": "world facts",
}
ATTACK_FAMILIES: Final = {
    "wording": "Asking differently",
    "beginning": "Beginning the answer",
    "sampling": "Drawing many answers",
    "parameters": "Bending the request's parameters",
    "logprobs": "Reading the numbers",
    "channels": "Around the answer",
}


def percent(share: float) -> str:
    """0.0512 → 5 %; small shares keep a digit."""
    value = 100 * share
    return f"{value:.1f} %" if 0 < abs(value) < 2 else f"{value:.0f} %"


def decimal(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def probability(value: float) -> str:
    """A p-value: small ones by their power of ten."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
