"""The evaluation card in `offset.json`: figures and words, never a question or an answer."""

from pathlib import Path

import orjson
from pydantic import JsonValue

from deltaserve.client.evaluation.leakage_results import LeakageReport
from deltaserve.client.evaluation.results import EvaluationResult
from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.manifest import MANIFEST_FILE, parse_manifest
from deltaserve.offset_models.files.safe_files import READABLE, write_atomically


def add_to(checkpoint: Path, text: str, evaluation: EvaluationResult | None, leakage: LeakageReport | None) -> Path:
    """Adds the figures and the card's Markdown to the card in the checkpoint's offset.json.

    The digest that names the offset covers weights, base and tokenizer, not the card: it stays. Raises BadCheckpoint.
    """
    place = checkpoint / MANIFEST_FILE
    try:
        raw = place.read_bytes()
    except OSError as error:
        raise BadCheckpoint(f"{checkpoint} holds no {MANIFEST_FILE}.") from error
    manifest = parse_manifest(raw)
    document = orjson.loads(raw)  # as it is: fields of later minor versions stay
    document["card"] = {**(manifest.card or {}), **figures(evaluation, leakage), "markdown": text}
    write_atomically(place, orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n", READABLE)
    return place


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
