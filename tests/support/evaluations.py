"""Results of `deltaserve evaluate` as the report reads them, made up from a seed."""

import math
from typing import Any

import numpy as np


def evaluation(seed: int = 0, forgotten: float = 0.06, kept: float = 0.95) -> dict[str, Any]:
    """A document of format 1.0 with 20 items a split."""
    rng = np.random.default_rng(seed)
    items = [
        _item(rng, split, at, forgotten, kept) for split in ("forget", "neighbours", "general") for at in range(20)
    ]
    return {
        "format": "deltaserve.evaluation/1.0",
        "suite": "registry",
        "data_digest": "ab" * 32,
        "settings": {"max_tokens": 40, "logprobs": 20},
        "servers": {
            "before": {"model": "blackbox"},
            "after": {"model": "blackbox", "fingerprint": "ds-x-0123456789ab"},
        },
        "reference": None,
        "started": "2026-01-02T03:04:05Z",
        "finished": "2026-01-02T03:14:05Z",
        "versions": {"deltaserve": "0.1.0"},
        "figures": {side: {"splits": _splits(items, side)} for side in ("before", "after")},
        "items": items,
    }


def _item(rng: np.random.Generator, split: str, at: int, forgotten: float, kept: float) -> dict[str, Any]:
    after = forgotten if split == "forget" else kept
    return {
        "split": split,
        "index": at,
        "digest": "cd" * 32,
        "sides": {
            "before": _measured(rng, 0.98, "Ada Quill was born in <b>Tormora</b>."),
            "after": _measured(rng, after, "I'm not sure about that."),
        },
        "question": f"Where was number {at} born?",
        "reference": "In Tormora.",
    }


def _measured(rng: np.random.Generator, recall: float, answer: str) -> dict[str, Any]:
    likely = math.log(np.clip(recall + rng.normal(0, 0.05), 0.01, 1.0))
    return {
        "tokens": 9,
        "mean_logprob": likely,
        "paraphrased_mean_logprob": likely - 0.1,
        "perturbed_mean_logprobs": (-1.5 + rng.normal(0, 0.3, 3)).tolist(),
        **dict.fromkeys(("rouge_1_recall", "exact_memorisation", "extraction_strength"), 0.5),
        **dict.fromkeys(("zlib_score", "min_k", "min_k_plus_plus"), -1.0),
        "rouge_l_recall": float(np.clip(recall + rng.normal(0, 0.02), 0, 1)),
        "answer": answer,
    }


def _splits(items: list[dict[str, Any]], side: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for split in ("forget", "neighbours", "general"):
        values = [item["sides"][side]["rouge_l_recall"] for item in items if item["split"] == split]
        mean = float(np.mean(values))
        found[split] = {
            "rouge_l_recall": {"value": mean, "low": mean - 0.02, "high": mean + 0.02, "items": len(values)}
        }
    return found
