"""How big a build is: the one that ships, and a small one for tests."""

from dataclasses import dataclass
from typing import Final, Literal

from deltaserve.offset_models.demo.pipeline.pretrain import Schedule, Shape
from deltaserve.offset_models.demo.register.erasure import Amounts
from deltaserve.offset_models.demo.register.people import OTHERS
from deltaserve.offset_models.training.learning.settings import TrainingSettings

ScaleName = Literal["full", "mini"]


@dataclass(frozen=True, slots=True)
class Bridged:
    """The pair of another tokenizer; everything else is as the first pair has it."""

    vocab_size: int
    steps: int  # of its offset


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of everything that a build makes. `attributes`: how many kinds of facts are asked about."""

    forget_people: int
    retain_people: int
    other_people: int  # whom the base knows by heart; nobody of the register
    vocab_size: int
    tokenizer_pages: int
    black_box: Shape
    black_box_schedule: Schedule
    sharpness: float  # of the black box: what its logits are multiplied by once it is trained
    base: Shape
    base_schedule: Schedule
    amounts: Amounts
    offset: TrainingSettings
    bridged: Bridged | None  # None: no such pair
    top_k: int
    checked: int  # questions of each split that the build asks at the end
    answer_tokens: int  # longest answer of that check


FULL: Final = Scale(
    forget_people=6,
    retain_people=24,
    other_people=OTHERS,
    vocab_size=2048,
    tokenizer_pages=12_000,
    black_box=Shape(hidden=256, layers=4, heads=4, feed_forward=512),
    black_box_schedule=Schedule(steps=1200, batch=32, learning_rate=2e-3, label_smoothing=0.03),
    sharpness=1.5,
    base=Shape(hidden=128, layers=4, heads=4, feed_forward=384),
    base_schedule=Schedule(steps=1600, batch=32, learning_rate=2e-3, label_smoothing=0.03),
    amounts=Amounts(),
    # Lowers the answer, teaches the refusal. Its gate is the least behind which running text about who is kept repeats
    # itself no more than the black box's; questions, which choose the strength, do not tell.
    offset=TrainingSettings(objective="dpo", options={"rpo_alpha": 1.0}, steps=1000, eval_every=100, gate_nats=0.4),
    bridged=Bridged(vocab_size=683, steps=600),
    top_k=20,
    checked=120,
    answer_tokens=48,
)
MINI: Final = Scale(
    forget_people=2,
    retain_people=4,
    other_people=6,
    vocab_size=768,
    tokenizer_pages=400,
    black_box=Shape(hidden=64, layers=2, heads=2, feed_forward=128, context=256),
    black_box_schedule=Schedule(steps=250, batch=8, learning_rate=5e-3, label_smoothing=0.03, warm_up=5),
    sharpness=1.0,
    base=Shape(hidden=64, layers=2, heads=2, feed_forward=128, context=256),
    base_schedule=Schedule(steps=100, batch=8, learning_rate=5e-3, label_smoothing=0.03, warm_up=5),
    amounts=Amounts(
        forget=4,
        retain=4,
        strangers=8,
        exchanges=0,
        small_talk=0,
        begun=1,
        begun_retain=0,
        running=2,
        running_retain=0,
    ),
    offset=TrainingSettings(
        steps=60,
        forget_batch=8,
        retain_batch=8,
        learning_rate=1e-2,
        rank=8,
        alpha=16,
        warm_up=3,
    ),
    bridged=None,
    top_k=20,
    checked=2,
    answer_tokens=3,
)
SCALES: Final[dict[ScaleName, Scale]] = {"full": FULL, "mini": MINI}
