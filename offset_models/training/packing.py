"""Packs a finished run as a checkpoint: its weights as files, and the facts for the manifest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from os.path import relpath
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

from pydantic import JsonValue

from deltaserve.offset_models.checkpoints.manifest import Manifest, TrainingSummary
from deltaserve.offset_models.checkpoints.pack import write_full_checkpoint, write_lora_checkpoint
from deltaserve.offset_models.training.collecting.folder import Collection
from deltaserve.offset_models.training.learning.run_folder import RunFolder
from deltaserve.offset_models.training.stages import Trained

KEPT: Final = (
    "options",
    "forget_batch",
    "retain_batch",
    "accumulate",
    "learning_rate",
    "weight_decay",
    "warm_up",
    "full",
    "rank",
    "alpha",
    "precision",
)


@dataclass(frozen=True, slots=True)
class Packing:
    """Where a checkpoint goes and what it says of itself."""

    out: Path
    name: str
    base: Path
    licence: str
    training: TrainingSummary
    strength: float
    gate_nats: float = 0.0
    card: Mapping[str, JsonValue] | None = None

    def write(self, weights: Path, *, full: bool) -> Manifest:
        """From exported weights: peft's folder, or a model folder. Raises BadCheckpoint."""
        about: dict[str, Any] = {
            "name": self.name,
            "method": "contrast" if self.training.objective == "contrast" else "delta-unlearning",
            "strength": self.strength,
            "gate_nats": self.gate_nats,
            "training": self.training,
            "card": self.card,
            "licence": self.licence,
            "seed": self.training.seed,
        }
        if full:
            return write_full_checkpoint(self.out, initial_folder=self.base, unlearned_folder=weights, **about)
        return write_lora_checkpoint(
            self.out,
            adapter_folder=weights,
            base_folder=self.base,
            base_name=self.base.name,
            base_path=_base_path(self.out, self.base),
            **about,
        )


def exported(trained: Trained, folder: RunFolder, base_name: str) -> Path:
    """The weights worth keeping as files of their own: peft's folder, or a model folder."""
    weights = folder.path / "weights"
    trained.student.save(weights, base_name)
    return weights


def write_candidate(packing: Packing, weights: Path, folder: RunFolder, *, full: bool) -> Path:
    """Writes the checkpoint into the run's folder, where it is served for measuring."""
    out = folder.path / "candidate" / packing.name
    rmtree(out, ignore_errors=True)
    replace(packing, out=out).write(weights, full=full)
    return out


def summary(trained: Trained, collection: Collection, *, bridged: bool = False) -> TrainingSummary:
    """How the offset was made; digests of the rows, never the rows. `bridged`: the pair has another tokenizer."""
    settings = trained.settings
    named = {name: value for name, value in asdict(settings).items() if name in KEPT}
    own = {
        "retain_loss": settings.retain,
        "retain_weight": settings.weight,
        "answer_noise": settings.noise,
        "ending_weight": settings.ending,
    }
    return TrainingSummary(
        objective=settings.objective,
        steps=trained.kept_step,
        forget_digest=collection.forget.digest,
        retain_digest=collection.retain.digest,
        forget_sequences=collection.forget.rows,
        retain_sequences=collection.retain.rows,
        upstream_model=collection.model,
        upstream_tokenizer=collection.tokenizer if bridged else None,
        top_k=collection.k,
        seed=settings.seed,
        duration_s=round(trained.state.seconds, 1),
        settings=own | named,
    )


def _base_path(out: Path, base: Path) -> str | None:
    """Relative when both lie in one folder, which can be a server's offsets root; else its settings name the base."""
    root = out.resolve().parent
    return relpath(base.resolve(), out.resolve()) if base.resolve().parent == root else None
