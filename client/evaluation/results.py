"""What an evaluation writes: one JSON document, format 1.x. `EvaluationResult.model_json_schema()` is its schema."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deltaserve.client.evaluation.data.reading import BadData
from deltaserve.client.evaluation.metrics.statistics import Estimate
from deltaserve.offset_models.files.safe_files import write_atomically

FORMAT: Final = "deltaserve.evaluation/1.0"
SideName = Literal["before", "after"]


class _Part(BaseModel):
    # A later minor version may add fields; a reader of this one keeps going without them.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Measurement(_Part):
    """What one server gave for one item. Log-probabilities are means over the answer's tokens, end token included."""

    tokens: int = Field(ge=1, description="tokens of the reference answer that were scored")
    mean_logprob: float
    paraphrased_mean_logprob: float | None = None
    perturbed_mean_logprobs: tuple[float, ...] = ()
    rouge_1_recall: float | None = Field(default=None, ge=0, le=1, description="none where nothing was answered")
    rouge_l_recall: float | None = Field(default=None, ge=0, le=1)
    rouge_l_f1: float | None = Field(default=None, ge=0, le=1, description="of running text")
    exact_memorisation: float = Field(ge=0, le=1)
    extraction_strength: float = Field(ge=0, le=1)
    verbatim_memorisation: float | None = Field(default=None, ge=0, le=1)
    zlib_score: float
    min_k: float
    min_k_40: float | None = Field(default=None, description="min_k of 40 % of the tokens")
    min_k_plus_plus: float
    finish_reason: str | None = None
    answer: str | None = Field(default=None, description="the greedy answer; kept only when asked for")


class ItemResult(_Part):
    """One item, as each side was measured. `question` and `reference` are kept only when asked for."""

    split: str
    part: str = Field(default="", description="of its split, with figures of its own")
    index: int = Field(ge=0)
    digest: str
    question: str | None = None
    reference: str | None = None
    sides: dict[SideName, Measurement]


class Figure(_Part):
    """A mean (or other statistic) with its 95 % bootstrap interval over `items` items."""

    value: float
    low: float
    high: float
    items: int = Field(ge=1)

    @classmethod
    def of(cls, estimate: Estimate, items: int) -> "Figure":
        return cls(value=estimate.value, low=estimate.low, high=estimate.high, items=items)


class ForgetQuality(_Part):
    """Two-sample Kolmogorov–Smirnov test between two models' truth ratios on the forget set."""

    p_value: float = Field(ge=0, le=1)
    statistic: float = Field(ge=0, le=1)


class SideResult(_Part):
    """Figures of one server: by split and metric, then those over several splits."""

    splits: dict[str, dict[str, Figure]]
    membership: dict[str, Figure] = Field(default_factory=dict, description="AUC of forget against holdout, by attack")
    model_utility: Figure | None = None
    forget_quality: ForgetQuality | None = None
    privacy_leakage: dict[str, float] = Field(default_factory=dict, description="per cent, by attack")


class ServerAbout(_Part):
    """Which server answered; `fingerprint` names the offset version where the server tells one."""

    model: str
    fingerprint: str | None = None


class Settings(_Part):
    """Settings that change the figures, beside data and servers."""

    max_tokens: int = Field(ge=1)
    logprobs: int = Field(ge=1, description="alternatives asked for with every scored token")


class EvaluationResult(_Part):
    """The whole document."""

    format: Literal["deltaserve.evaluation/1.0"] = FORMAT
    suite: str
    data_digest: str
    settings: Settings
    servers: dict[SideName, ServerAbout]
    reference: ServerAbout | None = Field(default=None, description="the model never trained on the forget set")
    started: datetime
    finished: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    versions: dict[str, str]
    figures: dict[SideName, SideResult]
    items: tuple[ItemResult, ...]

    def measurements(self, side: SideName, split: str) -> list[Measurement]:
        """Of the items of one split, in order."""
        return [item.sides[side] for item in self.items if item.split == split and side in item.sides]


def write_result(result: EvaluationResult, path: Path) -> None:
    """Writes the result so that nobody reads half of it; only the owner may read it: it may hold the forget set."""
    write_atomically(path, orjson.dumps(result.model_dump(mode="json"), option=orjson.OPT_INDENT_2) + b"\n")


def read_result(path: Path) -> EvaluationResult:
    """Reads a result of `deltaserve evaluate`. Raises BadData."""
    try:
        return EvaluationResult.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadData(f"{path.name} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"])) or "the document"
        raise BadData(f"{path.name} is no result of `deltaserve evaluate`: {where}: {fault['msg']}.") from None
