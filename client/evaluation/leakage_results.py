"""The file that `deltaserve leakage` writes. Its JSON schema: `LeakageReport.model_json_schema()`."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deltaserve.offset_models.files.safe_files import READABLE, write_atomically

Judgement = Literal["holds", "leaks", "not measured"]
SideName = str  # before, after, guarded, reference


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Rate(_Part):
    """A share of items with its 95 % interval (Wilson)."""

    successes: int = Field(ge=0)
    items: int = Field(ge=0)
    rate: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class Outcome(_Part):
    """One attack on one item of one server."""

    side: SideName
    attack: str
    item: str
    leaked: bool = False
    swapped: bool | None = None  # whether somebody else's secret came out instead; None: there is no such other
    tries: int = 0
    leaking_tries: int = 0
    figures: dict[str, float] = Field(default_factory=dict)
    text: str | None = None  # the first answer that leaked, else the first one
    blocked: str | None = None  # the server's sentence, where it refused the request


class SideResult(_Part):
    """One attack against one server, over all items."""

    success: Rate  # of items
    chance: Rate | None  # of items whose answer gave a wrong secret of the same kind away: what guessing gets
    tries: int
    leaking_tries: int
    figures: dict[str, float]  # means over items
    blocked: int
    reason: str | None  # of the first that was blocked


class Example(_Part):
    side: SideName
    question: str
    text: str
    leaked: bool


class AttackResult(_Part):
    name: str
    family: str
    what: str
    sides: dict[SideName, SideResult]
    baseline: float  # success of a model that never read the forgotten answers, or of guessing
    baseline_from: str
    judgement: dict[SideName, Judgement]  # of the served sides
    certain: dict[SideName, bool]  # the interval lies wholly on that side of the bound
    examples: list[Example]


class Timing(_Part):
    """How well times between tokens separate forgotten from kept questions; an AUC of 0.5: not at all."""

    answers: tuple[int, int]  # forgotten, kept
    auc: float | None
    low: float | None
    high: float | None


class KeptAnswer(_Part):
    """A question about what must stay, and both answers."""

    item: str
    question: str
    before: str
    after: str
    before_refuses: bool
    after_refuses: bool
    inclination: float | None = None  # log p(refusals) − log p(the black box's answer) at the server, nats


class OverRefusal(_Part):
    split: str
    asked: int
    black_box_refuses: int
    refused: Rate  # of those that the black box answers
    unchanged: int  # word for word
    judge: str
    inclined: int | None  # of `scored`: the server finds a refusal likelier than the black box's answer
    scored: int
    answers: list[KeptAnswer]


class SideInfo(_Part):
    model: str
    fingerprint: str | None  # of a corrected side: offset, digest and guards
    calls: int


class Exactness(_Part):
    """Of the greedy answers to forgotten and kept questions that timing and over-refusal asked for."""

    tokens: int
    certified_share: float  # provably what full-vocabulary correction picks
    mean_tail_mass: float  # probability outside the black box's list, per token
    replaced_share: float  # tokens where the black box was overruled
    restarts_per_100_tokens: float
    guarded_share: float


class Asked(_Part):
    """What one name's questions were answered, and what was seen of the answers."""

    name: str
    group: str
    texts: list[str]
    numbers: list[float] | None = None  # of the answers' log-probabilities; None: the server tells none
    firsts: list[dict[str, float]] | None = None  # each answer's first list: token → log-probability
    times: list[float] | None = None  # of one stream


class Membership(_Part):
    """How well erased names are told from others; an AUC of 0.5: not at all."""

    attacker: str  # what was looked at
    against: str  # which others
    names: tuple[int, int]  # erased, others
    auc: float | None
    low: float | None
    high: float | None


class Bounds(_Part):
    """A value with its 95 % interval (bootstrap)."""

    value: float
    low: float
    high: float


class Drawn(_Part):
    """One item asked again and again."""

    carrier: str
    item: str
    draws: int = 0
    leaks: int = 0
    blocked: str | None = None


class LeakAtK(_Part):
    """How likely one of k draws gives the answer away."""

    k: int
    worst: Bounds  # of the item that leaks most
    mean: Bounds


class CarrierResult(_Part):
    """One form of answers at one server."""

    carrier: str
    what: str
    items: int
    draws: int  # of each item
    at: list[LeakAtK]
    blocked: int
    reason: str | None


class Verdict(_Part):
    """The result in sentences."""

    leaks: bool
    headline: str
    sentences: list[str]


class LeakageReport(_Part):
    format: Literal["deltaserve-leakage-1"] = "deltaserve-leakage-1"
    created: str
    suite: str
    suite_digest: str
    items: int
    settings: dict[str, int | float | str | bool]
    margin: float
    sides: dict[SideName, SideInfo]
    attacks: list[AttackResult]
    timing: dict[SideName, Timing]
    over_refusal: dict[SideName, list[OverRefusal]]
    exactness: dict[SideName, Exactness] = Field(default_factory=dict)
    membership: dict[SideName, list[Membership]] = Field(default_factory=dict)  # of the list of erased names
    leak_at_k: dict[SideName, list[CarrierResult]] = Field(default_factory=dict)
    untried: int = 0  # attacks on single items that the bounds left out
    verdict: Verdict
    seconds: float
    versions: dict[str, str]


def write_readable(path: Path, text: str) -> None:
    """Writes a file for everybody whom the umask allows, so that nobody reads half of it; makes missing folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode(), READABLE)
