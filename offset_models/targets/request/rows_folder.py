"""The rows of a request on disk: JSON lines that a person can read and edit before anything is trained on them.

A line is a training row (`training/rows/row.py`) with three more fields: the form it asks in, the group that it belongs
to, and the words that must not come out.
"""

from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from deltaserve.errors import BadRequest, Conflict, CorruptState
from deltaserve.offset_models.files.digests import Sha256
from deltaserve.offset_models.files.safe_files import write_atomically
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.training.rows.row import BadRow, Row

Group = Literal["target", "neighbour", "general", "code"]
Part = Literal["forget", "retain", "choose-forget", "choose-retain", "judge-forget", "judge-retain"]
GROUPS: Final[tuple[Group, ...]] = get_args(Group)
PARTS: Final[tuple[Part, ...]] = get_args(Part)
RECORD: Final = "request.json"
SUMMARY: Final = "summary.md"


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A row with what it is for."""

    row: Row
    form: str
    group: Group
    secrets: tuple[str, ...] = ()

    @classmethod
    def of(cls, probe: Probe, group: Group) -> Self:
        return cls(probe.row, probe.form, group, probe.secrets)

    @classmethod
    def parse(cls, value: Any, origin: str) -> Self:
        """Of a line. Raises BadRow."""
        row = Row.parse(value, origin)
        group, secrets = value.get("group", "target"), value.get("secrets", [])
        if group not in GROUPS:
            raise BadRow(f"its group is none of {', '.join(GROUPS)}")
        if not isinstance(secrets, list) or not all(isinstance(secret, str) for secret in secrets):
            raise BadRow("secrets is not a list of strings")
        return cls(row, str(value.get("form", "own")), group, tuple(secrets))

    def to_json(self) -> dict[str, Any]:
        more = {"secrets": list(self.secrets)} if self.secrets else {}
        return {**self.row.to_json(), "form": self.form, "group": self.group, **more}


@dataclass(frozen=True, slots=True)
class Parts:
    """All rows of a request: what is trained, what chooses step, strength and gate, and what chose nothing."""

    rows: Mapping[Part, Sequence[TargetRow]] = field(default_factory=dict)

    def __getitem__(self, part: Part) -> Sequence[TargetRow]:
        return self.rows.get(part, ())

    @property
    def chooses(self) -> bool:
        """Whether there are rows of both sides to choose by."""
        return bool(self["choose-forget"] and self["choose-retain"])


class RowsRecord(BaseModel):
    """`request.json`: digests and figures, never text."""

    model_config = ConfigDict(frozen=True)

    format: int = 1
    request: Sha256  # Request.identity
    model: str  # that was asked, as it calls itself
    address: Sha256  # digest of where it was
    calls: int
    seconds: float
    notes: tuple[str, ...] = ()  # sentences for people, without words of the target


@dataclass(frozen=True, slots=True)
class RowsFolder:
    """The folder `rows` of a request's work."""

    path: Path

    def record(self, request: str) -> RowsRecord | None:
        """The record, where all rows are there. Raises Conflict for those of another request, CorruptState."""
        try:
            known = RowsRecord.model_validate_json((self.path / RECORD).read_bytes())
        except FileNotFoundError:
            return None
        except (ValidationError, OSError) as error:
            raise CorruptState(f"{self.path / RECORD} cannot be read; delete {self.path} to ask once more.") from error
        if known.request != request:
            raise Conflict(
                f"{self.path} holds the rows of another request (another name, kind, document or number of calls): "
                "give another --name or --work, or delete that folder."
            )
        return known

    def write(self, parts: Parts, record: RowsRecord, summary: str) -> None:
        """The record last: with it the rows are complete."""
        self.path.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            lines = [orjson.dumps(row.to_json(), option=orjson.OPT_APPEND_NEWLINE) for row in parts[part]]
            write_atomically(self.path / _file(part), b"".join(lines))
        write_atomically(self.path / SUMMARY, summary.encode())
        write_atomically(self.path / RECORD, record.model_dump_json(indent=2).encode() + b"\n")

    def read(self) -> Parts:
        """As they are now, whoever edited them. Raises BadRow, which names bad lines and quotes nothing."""
        return Parts({part: self._rows(part) for part in PARTS})

    def files(self) -> list[Path]:
        """Every file with text, and what a killed run had half written of them."""
        names = [*map(_file, PARTS), SUMMARY]
        whole = [path for name in names if (path := self.path / name).exists()]
        return whole + sorted(path for name in names for path in self.path.glob(f".{name}.*.tmp"))

    def _rows(self, part: Part) -> list[TargetRow]:
        path = self.path / _file(part)
        try:
            lines = path.read_bytes().removeprefix(BOM_UTF8).splitlines()  # editors put one there
        except OSError:
            raise BadRequest(f"{path} is missing: put it back, or delete {self.path} to ask once more.") from None
        return list(_parsed(lines, path.name))


def _parsed(lines: Sequence[bytes], name: str) -> Iterable[TargetRow]:
    bad = list[str]()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield TargetRow.parse(_json(line), f"{name}, line {number}")
        except BadRow as error:
            bad.append(f"line {number}: {error.message}")
    if bad:
        more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise BadRow(f"{name} has rows that cannot be used: {'; '.join(bad[:5])}{more}. Correct or remove them.")


def _json(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        raise BadRow("it is not JSON") from None


def _file(part: Part) -> str:
    return f"{part}.jsonl"
