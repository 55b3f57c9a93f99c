"""`offset.json`, the manifest of a checkpoint. Its folder holds JSON and safetensors only."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from deltaserve.errors import BadCheckpoint, BadRequest
from deltaserve.offset_models.files.digests import Sha256, digest_of
from deltaserve.offset_models.tokenizer.fingerprint import TokenizerFingerprint

MANIFEST_FILE: Final = "offset.json"
FORMAT_VERSION: Final = "1.1"  # 1.1: gate_nats
FORMAT_MAJOR: Final = 1
MAX_IDS: Final = 2**31 - 1
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

TokenId = Annotated[int, Field(ge=0, le=MAX_IDS)]
OffsetName = Annotated[str, Field(pattern=NAME_PATTERN)]
RelativePath = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\\/\x00][^\\\x00]*$")]
Kind = Literal["lora", "full"]


def check_name(name: str) -> None:
    """Raises BadRequest for what cannot be an offset's name: a path in its place would lead out of the folders."""
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise BadRequest(f"{name!r} cannot be an offset's name: up to 64 letters, digits, '.', '_' and '-'.")


class _Part(BaseModel):
    # A later minor version may add fields; a reader of this one keeps going without them.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class FileEntry(_Part):
    """One file of the checkpoint."""

    sha256: Sha256
    bytes: int = Field(ge=0)


class BaseModelRef(_Part):
    """The shared base of a `lora` pair, at `path` (relative to the checkpoint) or else configured by `name`."""

    name: str = Field(min_length=1, max_length=256)
    path: RelativePath | None = None
    digest: Sha256  # over the base's config.json and safetensors: see `digests.model_digest`


class TrainingSummary(_Part):
    """How the offset was made. Digests of the data, never the data."""

    objective: str = Field(min_length=1, max_length=64)
    steps: int = Field(ge=0)
    forget_digest: Sha256 | None = None
    retain_digest: Sha256 | None = None
    forget_sequences: int | None = Field(default=None, ge=0)
    retain_sequences: int | None = Field(default=None, ge=0)
    upstream_model: str | None = Field(default=None, max_length=256)  # the black box the top-k was collected from
    upstream_tokenizer: Sha256 | None = None  # fingerprint of its ids, where the pair's tokenizer is another one
    top_k: int | None = Field(default=None, ge=1)
    seed: int | None = None
    duration_s: float | None = Field(default=None, ge=0)
    settings: dict[str, JsonValue] = Field(
        default_factory=dict
    )  # learning rate, rank, weights …: figures and names only


class Manifest(_Part):
    """The contents of `offset.json`, format 1.x."""

    format_version: str = Field(default=FORMAT_VERSION, pattern=r"^[0-9]{1,4}\.[0-9]{1,4}$")
    name: OffsetName
    kind: Kind
    method: str = Field(min_length=1, max_length=64)
    strength: float = Field(default=1.0, ge=-16, le=16)  # α the offset was made for; a load may override it
    gate_nats: float = Field(default=0.0, ge=0, le=64)  # no offset where KL(u ‖ o) is below this; 0: no gate
    base: BaseModelRef | None = None  # `lora` only
    tokenizer: TokenizerFingerprint
    vocab_size: int = Field(gt=0, le=MAX_IDS)  # the tokenizer's largest id + 1; rows of the models beyond are masked
    masked_ids: tuple[TokenId, ...] = ()  # ids below `vocab_size` that the tokenizer does not have
    files: dict[RelativePath, FileEntry] = Field(min_length=1)
    training: TrainingSummary | None = None
    card: dict[str, JsonValue] | None = None  # evaluation figures
    licence: str = Field(min_length=1, max_length=128)
    seed: int | None = None
    created: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @model_validator(mode="after")
    def _base_goes_with_lora(self) -> "Manifest":
        if (self.kind == "lora") != (self.base is not None):
            raise ValueError("a 'lora' checkpoint names its base model; a 'full' one has none")
        return self

    @property
    def content_digest(self) -> str:
        """sha256 (hex) of what decides the offset rows: weights, base, ids, gate. Names, cards and dates do not."""
        identity: dict[str, Any] = {
            "kind": self.kind,
            "base": self.base.digest if self.base else None,
            "tokenizer": self.tokenizer.ids,
            "vocab_size": self.vocab_size,
            "masked_ids": list(self.masked_ids),
            "files": {path: entry.sha256 for path, entry in self.files.items()},
        }
        if self.gate_nats:  # left out where there is none, as in format 1.0
            identity["gate_nats"] = self.gate_nats
        return digest_of(identity)

    def to_json(self) -> bytes:
        """The bytes written to `offset.json`."""
        return self.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"


def parse_manifest(raw: bytes) -> Manifest:
    """Manifest from the bytes of `offset.json`. Raises BadCheckpoint naming the first field at fault."""
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadCheckpoint(f"{MANIFEST_FILE} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise BadCheckpoint(f"{MANIFEST_FILE} must hold one JSON object.")
    _refuse_unknown_major(data.get("format_version"))
    try:
        manifest = Manifest.model_validate_json(raw)
        orjson.dumps(manifest.model_dump(mode="json"))  # the card, say, is shown to operators
    except ValidationError as error:
        raise BadCheckpoint(_first_fault(error)) from error
    except TypeError as error:
        raise BadCheckpoint(f"{MANIFEST_FILE} holds a number that JSON's readers do not take: {error}.") from error
    return manifest


def manifest_json_schema() -> dict[str, Any]:
    """The published JSON schema of `offset.json`."""
    return Manifest.model_json_schema()


def _refuse_unknown_major(version: object) -> None:
    major = version.partition(".")[0] if isinstance(version, str) else None
    if major is None or not major.isascii() or not major.isdigit():
        raise BadCheckpoint(f"{MANIFEST_FILE} has no format_version such as {FORMAT_VERSION!r}.")
    if int(major[:9]) != FORMAT_MAJOR:
        raise BadCheckpoint(f"{MANIFEST_FILE} is of format {major}.x; this program reads {FORMAT_MAJOR}.x.")


def _first_fault(error: ValidationError) -> str:
    faults: Sequence[Any] = error.errors(include_url=False, include_input=False)
    where = ".".join(str(part) for part in faults[0]["loc"])
    return f"{MANIFEST_FILE}: {where or 'manifest'}: {faults[0]['msg']}."
