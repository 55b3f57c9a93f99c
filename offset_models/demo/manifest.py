"""`manifest.json` beside the demo's weights: digests of every file, and how they were made."""

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Self

import orjson

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.files.digests import sha256_file
from deltaserve.offset_models.files.safe_files import list_files

WEIGHTS: Final = Path(__file__).parent / "weights"  # what ships: blackbox/, base/, the offset, and their manifest
WEIGHTS_MANIFEST: Final = "manifest.json"
MADE_WITH: Final = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


@dataclass(frozen=True, slots=True)
class WeightsManifest:
    """What a build made."""

    seed: int
    scale: str
    seconds: dict[str, float]  # wall time of each stage
    figures: dict[str, float]  # what the build's own check found (see docs/demo.md)
    versions: dict[str, str]
    files: dict[str, str]  # path below the folder → sha256 (hex)

    @classmethod
    def describe(
        cls, folder: Path, seed: int, scale: str, seconds: dict[str, float], figures: dict[str, float]
    ) -> Self:
        """Of everything that now lies in `folder`."""
        versions = {"python": platform.python_version(), **{name: version(name) for name in MADE_WITH}}
        files = {path: sha256_file(folder / path) for path in _listed(folder)}
        return cls(seed, scale, seconds, figures, versions, files)

    def write(self, folder: Path) -> None:
        (folder / WEIGHTS_MANIFEST).write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2) + b"\n")


def read_weights_manifest(folder: Path) -> WeightsManifest:
    """The manifest of a weights folder, unchecked. Raises BadCheckpoint when there is none."""
    try:
        value: dict[str, Any] = orjson.loads((folder / WEIGHTS_MANIFEST).read_bytes())
        return WeightsManifest(**value)
    except (OSError, orjson.JSONDecodeError, TypeError) as error:
        raise BadCheckpoint(f"The demo's weights are not there or not whole: {error}.") from error


def verify_weights(folder: Path) -> WeightsManifest:
    """The manifest, once every file is known to be the one that was built. Raises BadCheckpoint."""
    manifest = read_weights_manifest(folder)
    if missing := sorted(set(manifest.files) ^ set(_listed(folder))):
        raise BadCheckpoint(f"The demo's weights and their manifest differ in {missing[0]}.")
    for path, digest in manifest.files.items():
        if sha256_file(folder / path) != digest:
            raise BadCheckpoint(f"{path} is not the file that the demo was built with.")
    return manifest


def _listed(folder: Path) -> list[str]:
    return [path for path in list_files(folder) if path != WEIGHTS_MANIFEST]
