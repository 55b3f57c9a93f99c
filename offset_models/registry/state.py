"""The registry's state file: small JSON, written so that a crash leaves the old or the new one."""

from pathlib import Path
from typing import Annotated, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from deltaserve.errors import CorruptState
from deltaserve.offset_models.checkpoints.manifest import OffsetName
from deltaserve.offset_models.files.digests import Sha256, digest_of
from deltaserve.offset_models.files.safe_files import write_atomically

STATE_FILE: Final = "state.json"
STATE_FORMAT: Final = 1
FLEET_FORMAT: Final = 2  # the same with a generation, of several servers: `server/fleet/record`
REMEDY: Final = "Restore it from a backup, or move the state folder away to start without any state."

Strength = Annotated[float, Field(ge=-16, le=16, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PartSpec(_Part):
    """One checkpoint in a version: δ of `content` counts α = `weight` · the version's strength."""

    path: str  # relative to the offsets root
    content: Sha256  # `Manifest.content_digest`
    weight: Strength = 1.0


class VersionSpec(_Part):
    """Everything that decides a version's answers. Equal digests: equal answers."""

    name: OffsetName
    strength: Strength
    parts: tuple[PartSpec, ...] = Field(min_length=1)
    target: dict[str, JsonValue] = Field(default_factory=dict)  # what else changes the target: tail policy, guards

    @property
    def digest(self) -> str:
        parts = [[part.content, part.weight * self.strength] for part in self.parts]
        return digest_of({"parts": parts, "target": self.target})


class RegistryState(_Part):
    """The versions that were loaded, which one was active and which one a rollback goes to."""

    format: int = STATE_FORMAT
    versions: tuple[VersionSpec, ...] = ()
    active: OffsetName | None = None
    previous: VersionSpec | None = None


class StateFile:
    """`state.json` in a folder of its own. The digest inside tells a torn or edited file from a good one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / STATE_FILE

    def write(self, state: RegistryState) -> None:
        """On disk when it returns. Raises OSError; the old state is then still there."""
        write_atomically(self.path, sealed(state))

    def read(self) -> RegistryState | None:
        """None when there is no such file. Raises CorruptState for anything that is not exactly what `write` wrote."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CorruptState(f"{STATE_FILE} cannot be read: {error.strerror}.") from error
        return _parse(raw)


def sealed(state: RegistryState) -> bytes:
    """A state with its digest, as a file or another store keeps it."""
    body = state.model_dump(mode="json")
    return orjson.dumps({"state": body, "sha256": digest_of(body)}, option=orjson.OPT_INDENT_2) + b"\n"


def unsealed(raw: bytes, name: str = STATE_FILE) -> dict[str, Any]:
    """The fields of a sealed state, of whatever format. Raises CorruptState for anything that `sealed` did not make."""
    try:
        outer = orjson.loads(raw)
        body, digest = outer["state"], outer["sha256"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise CorruptState(f"{name} is torn: it is not the JSON that this program writes. {REMEDY}") from error
    if digest_of(body) != digest:
        raise CorruptState(f"{name} was changed or is damaged: its digest does not fit. {REMEDY}")
    if not isinstance(body, dict):
        raise CorruptState(f"{name} does not hold a registry's state. {REMEDY}")
    return body


def _parse(raw: bytes) -> RegistryState:
    body = unsealed(raw)
    if body.get("format") == FLEET_FORMAT:
        raise CorruptState(
            f"{STATE_FILE} is the record of a fleet: start this server as one of its replicas (--fleet-store file), or "
            "give it another state_folder."
        )
    if body.get("format") != STATE_FORMAT:
        raise CorruptState(f"{STATE_FILE} is of format {body.get('format')}; this program reads {STATE_FORMAT}.")
    try:
        return RegistryState.model_validate(body)
    except ValidationError as error:
        raise CorruptState(f"{STATE_FILE} does not hold a registry's state. {REMEDY}") from error
