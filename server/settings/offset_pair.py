"""Settings of the offset pair: where its files lie, which offset is active, what of it survives a restart."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field, model_validator

from deltaserve.server.settings.kinds import Seconds


class OffsetPair(BaseModel):
    """The pair's base model and its offsets."""

    offsets_root: Path | None = Field(None, description="folder that every offset checkpoint must lie under")
    offset: str | None = Field(None, description="checkpoint (name under offsets_root, or path) active at start")
    base: Path | None = Field(None, description="folder of the pair's shared base model")
    strength: float | None = Field(
        None, ge=0, le=10, allow_inf_nan=False, description="how much of the offset is applied; default: its own"
    )
    max_context: int | None = Field(None, ge=1, description="tokens of prompt and answer that the pair may hold")
    state_folder: Path | None = Field(
        None,
        description="where the registry's state and audit log survive a restart; default: .deltaserve in the offsets "
        "root, as soon as admin_key or watch_offsets lets offsets change",
    )
    watch_offsets: bool = Field(False, description="load (not activate) checkpoints that appear under offsets_root")
    watch_interval_s: Seconds = Field(2.0, description="how often watch_offsets looks")

    @model_validator(mode="after")
    def _watched_root_is_there(self) -> Self:
        if self.watch_offsets and self.offsets_root is None:
            raise ValueError("watch_offsets needs an offsets_root to watch")
        return self
