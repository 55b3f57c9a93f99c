"""How big the table's models and their data are: the one in docs/evaluation.md, and a miniature for tests."""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from deltaserve.offset_models.demo.pipeline.pretrain import Schedule, Shape

ScaleName = Literal["full", "mini"]


@dataclass(frozen=True, slots=True)
class Scale:
    """`retain_rows` of full.jsonl's beginning are known to the black box; then come rows that are only language to the
    base (`base_rows`), that are declined by everybody (`declined_rows`), and that nobody has seen (`holdout_rows`).
    """

    forget_set: str
    retain_rows: int
    base_rows: int
    declined_rows: int
    holdout_rows: int
    vocab_size: int
    black_box: Shape
    black_box_schedule: Schedule
    base: Shape
    base_schedule: Schedule
    offset: dict[str, Any]  # TrainingSettings of every pair, beside its objective
    direct: dict[str, Any]  # the same where the black box's own weights are tuned
    evaluated: int  # rows of each split but forget's
    answer_tokens: int
    attacked: int  # forgotten items that are attacked
    retain_trained: int  # retained rows that pairs train on; they see real authors and world facts too
    direct_objectives: tuple[str, ...] = ("grad_diff", "idk", "npo")
    objectives: tuple[str, ...] = field(default=())  # none: every one there is
    top_k: int = 20  # what training sees of the black box
    measured_k: int = 50  # what the server asks it for: wrong answers are full of tokens beyond 20


FULL: Final = Scale(
    forget_set="forget05",
    retain_rows=800,
    base_rows=2000,
    declined_rows=200,
    holdout_rows=100,
    vocab_size=4096,
    black_box=Shape(hidden=256, layers=3, heads=4, feed_forward=768, context=512),
    black_box_schedule=Schedule(steps=2800, batch=8, learning_rate=3e-3, label_smoothing=0.0, warm_up=100),
    base=Shape(hidden=128, layers=3, heads=4, feed_forward=384, context=512),
    base_schedule=Schedule(steps=2400, batch=8, learning_rate=3e-3, label_smoothing=0.0, warm_up=100),
    offset={
        "steps": 200,
        "forget_batch": 8,
        "retain_batch": 16,
        "learning_rate": 2e-3,
        "weight_decay": 0.05,
        "retain_weight": 1.0,
        "max_retain_kl": 2.0,
    },
    direct={
        "steps": 60,
        "forget_batch": 8,
        "retain_batch": 8,
        "learning_rate": 3e-4,
        "full": True,
        "retain_weight": 1.0,
        "max_retain_kl": 2.0,
    },
    evaluated=40,
    answer_tokens=96,
    attacked=24,
    retain_trained=800,
)
MINI: Final = Scale(
    forget_set="forget05",
    retain_rows=6,
    base_rows=2,
    declined_rows=2,
    holdout_rows=2,
    vocab_size=420,
    black_box=Shape(hidden=32, layers=2, heads=2, feed_forward=64, context=256),
    black_box_schedule=Schedule(steps=60, batch=4, learning_rate=1e-2, label_smoothing=0.0, warm_up=5),
    base=Shape(hidden=32, layers=2, heads=2, feed_forward=64, context=256),
    base_schedule=Schedule(steps=20, batch=4, learning_rate=1e-2, label_smoothing=0.0, warm_up=5),
    offset={"steps": 8, "forget_batch": 2, "retain_batch": 2, "learning_rate": 1e-2, "rank": 4, "eval_every": 8},
    direct={"steps": 4, "forget_batch": 2, "retain_batch": 2, "learning_rate": 1e-3, "full": True, "eval_every": 4},
    evaluated=2,
    answer_tokens=8,
    attacked=1,
    retain_trained=6,
    direct_objectives=("idk",),
    objectives=("idk",),
)
SCALES: Final[dict[ScaleName, Scale]] = {"full": FULL, "mini": MINI}
