"""The rows of the table out of what was measured; on the screen and in build/bench/tofu.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from benchmarks.support import report
from benchmarks.tofu.bench import Bench
from benchmarks.tofu.stages import Runner, graph
from deltaserve.client.evaluation.results import Figure, SideResult, read_result

PREFIX = "evaluate-"


def show(bench: Bench, scale: str, runner: Runner, failed: Mapping[str, str], seconds: float) -> None:
    """Every row that was measured; those that could not be say why."""
    names = [name.removeprefix(PREFIX) for name in graph(bench) if name.startswith(PREFIX)]
    rows = [_row(bench, runner, name) for name in names if runner.is_done(PREFIX + name)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    report.show("TOFU", columns, [["" if row.get(c) is None else row[c] for c in columns] for row in rows])
    for name, reason in failed.items():
        print(f"{name}: {reason}")
    figures = {
        f"{row['row']}_{name}": row[name]
        for row in rows
        for name in ("forget_quality", "model_utility", "forget_rouge_l")
        if row[name] is not None
    }
    settings = {"scale": scale, "seconds": round(seconds, 1), "failed": dict(failed), "subset": _sizes(bench)}
    print(report.write("tofu" if scale == "full" else f"tofu-{scale}", figures, settings, rows))


def _row(bench: Bench, runner: Runner, name: str) -> dict[str, Any]:
    side = read_result(bench.result(name)).figures["after"]
    made = name if name in graph(bench) else None
    return {
        "row": name,
        "forget_quality": None if side.forget_quality is None else side.forget_quality.p_value,
        "ks_distance": None if side.forget_quality is None else side.forget_quality.statistic,
        "model_utility": _value(side.model_utility),
        "forget_rouge_l": _of(side, "forget", "rouge_l_recall"),
        "forget_probability": _of(side, "forget", "probability"),
        "retain_rouge_l": _of(side, "retain", "rouge_l_recall"),
        "retain_probability": _of(side, "retain", "probability"),
        "extraction_strength": _of(side, "forget", "extraction_strength"),
        "membership_auc_min_k": _value(side.membership.get("min_k")),
        "privacy_leakage_min_k": side.privacy_leakage.get("min_k"),
        "made_in_s": None if made is None else runner.seconds(made),
        **_extra(bench.result(name)),
    }


def _extra(result: Path) -> dict[str, float]:
    """What the hooks of `measuring.EXTRAS` found."""
    found: dict[str, float] = orjson.loads(result.with_suffix(".extra.json").read_bytes())
    return found


def _of(side: SideResult, split: str, metric: str) -> float | None:
    return _value(side.splits.get(split, {}).get(metric))


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def _sizes(bench: Bench) -> dict[str, int]:
    subset = bench.subset
    return {name: len(getattr(subset, name)) for name in subset.__slots__}
