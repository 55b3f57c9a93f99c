"""The evaluation card in `offset.json`: figures and words, never a question or an answer."""

from pathlib import Path

from pydantic import JsonValue

from deltaserve.client.evaluation.leakage_results import LeakageReport
from deltaserve.client.evaluation.results import EvaluationResult
from deltaserve.offset_models.checkpoints.card import add_figures


def add_to(checkpoint: Path, text: str, evaluation: EvaluationResult | None, leakage: LeakageReport | None) -> Path:
    """Adds the figures and the card's Markdown to the card in the checkpoint's offset.json.

    Raises BadCheckpoint.
    """
    return add_figures(checkpoint, {**figures(evaluation, leakage), "markdown": text})


def figures(evaluation: EvaluationResult | None, leakage: LeakageReport | None) -> dict[str, JsonValue]:
    """As a card names them."""
    values: dict[str, JsonValue] = {}
    if evaluation:
        for side, found in evaluation.figures.items():
            for split, metrics in found.splits.items():
                values |= {f"{metric}/{split}/{side}": round(one.value, 4) for metric, one in metrics.items()}
    if leakage:
        for attack in leakage.attacks:
            if "after" in attack.sides:
                values[f"leakage/{attack.name}"] = round(attack.sides["after"].success.rate, 4)
        values["leakage/items"] = leakage.items
        values["leakage/calls"] = sum(side.calls for side in leakage.sides.values())
        values["leakage/verdict"] = leakage.verdict.headline
    return values
