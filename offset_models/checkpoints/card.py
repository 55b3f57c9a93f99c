"""The evaluation card in a checkpoint's manifest: figures and words, never a question or an answer."""

from collections.abc import Mapping
from pathlib import Path

import orjson
from pydantic import JsonValue

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.manifest import MANIFEST_FILE, parse_manifest
from deltaserve.offset_models.files.safe_files import READABLE, write_atomically


def add_figures(checkpoint: Path, figures: Mapping[str, JsonValue]) -> Path:
    """Adds figures to the card in the checkpoint's manifest; gives the manifest's path.

    The digest that names the offset covers weights, base and tokenizer, not the card: it stays. Raises BadCheckpoint.
    """
    place = checkpoint / MANIFEST_FILE
    try:
        raw = place.read_bytes()
    except OSError as error:
        raise BadCheckpoint(f"{checkpoint} holds no {MANIFEST_FILE}.") from error
    manifest = parse_manifest(raw)
    document = orjson.loads(raw)  # as it is: fields of later minor versions stay
    document["card"] = {**(manifest.card or {}), **figures}
    write_atomically(place, orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n", READABLE)
    return place
