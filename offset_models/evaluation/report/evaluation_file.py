"""The parts of an evaluation's result (`deltaserve evaluate`, format 1.x) that the report shows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.errors import BadRequest

SideName = Literal["before", "after"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Figure(_Part):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float
    items: int


class Measurement(_Part):
    """What one server said about one item."""

    mean_logprob: float
    paraphrased_mean_logprob: float | None = None
    perturbed_mean_logprobs: tuple[float, ...] = ()
    rouge_l_recall: float
    answer: str | None = None


class ItemResult(_Part):
    split: str
    question: str | None = None
    reference: str | None = None
    sides: dict[SideName, Measurement]


class ForgetQuality(_Part):
    p_value: float
    statistic: float


class SideFigures(_Part):
    splits: dict[str, dict[str, Figure]]
    model_utility: Figure | None = None
    forget_quality: ForgetQuality | None = None


class Server(_Part):
    model: str
    fingerprint: str | None = None


class Evaluation(_Part):
    """The document."""

    format: str = Field(pattern=r"^deltaserve\.evaluation/1\.")
    suite: str
    data_digest: str
    servers: dict[SideName, Server]
    reference: Server | None = None
    finished: str
    versions: dict[str, str]
    figures: dict[SideName, SideFigures]
    items: tuple[ItemResult, ...]

    def of(self, side: SideName, split: str) -> Iterator[Measurement]:
        """Measurements of one split."""
        return (item.sides[side] for item in self.items if item.split == split and side in item.sides)

    def value(self, side: SideName, split: str, metric: str) -> Figure | None:
        figures = self.figures.get(side)
        return None if figures is None else figures.splits.get(split, {}).get(metric)


def read_evaluation(path: Path) -> Evaluation:
    """Raises BadRequest with a sentence."""
    try:
        return Evaluation.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadRequest(f"{path.name} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise BadRequest(f"{path.name} is no result of `deltaserve evaluate`: {_fault(error)}.") from None


def _fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'the document'}: {fault['msg']}"
