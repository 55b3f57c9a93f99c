"""Objectives by name: the built-in ones, and those that installed packages add under `deltaserve.objectives`.

An entry point names an `Objective`:

    [project.entry-points."deltaserve.objectives"]
    mine = "my_package.losses:MINE"
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final, Literal

from torch import Tensor

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning import objectives as losses
from deltaserve.offset_models.training.learning.distribution import Positions
from deltaserve.offset_models.training.learning.settings import RetainName

GROUP: Final = "deltaserve.objectives"
Answer = Literal["reference", "refusal"]  # what a forget row is answered with
RETAIN_TERMS: Final[Mapping[str, Callable[[Positions], Tensor]]] = MappingProxyType(
    {"kl": losses.kl, "nll": losses.nll}
)


@dataclass(frozen=True, slots=True)
class Objective:
    """A forget term, and what goes with it unless the user says otherwise.

    `loss` gets the Positions of each of `answers` in turn; its keyword-only arguments are the objective's options.
    """

    name: str
    loss: Callable[..., Tensor]
    answers: tuple[Answer, ...] = ("reference",)
    retain: RetainName = "kl"
    retain_weight: float = 1.0
    strength: float = 1.0  # α in log q
    eval_every: int = 50  # steps; fewer where the best ones come early and pass
    answer_noise: float = 0.0  # of the tokens of a reference answer, the share that is read wrong; reading o anew costs
    ending_weight: float = 0.0  # of the end token's log-probability behind such a token; needs answer_noise

    @property
    def options(self) -> dict[str, float]:
        """Options of the loss and their defaults."""
        given = inspect.signature(self.loss).parameters.values()
        return {option.name: option.default for option in given if option.kind is option.KEYWORD_ONLY}

    def forget_loss(self, batches: Mapping[Answer, Positions], options: Mapping[str, float]) -> Tensor:
        """The forget term of one batch."""
        return self.loss(*(batches[answer] for answer in self.answers), **options)


BUILT_IN: Final[Sequence[Objective]] = (
    Objective("grad_ascent", losses.grad_ascent, retain="none", eval_every=5),
    Objective("grad_diff", losses.grad_diff, retain="nll", retain_weight=4.0, answer_noise=0.3, ending_weight=0.5),
    Objective("kl_min", losses.kl_min, retain_weight=4.0, answer_noise=0.3, ending_weight=0.5),
    Objective("idk", losses.idk, answers=("refusal",), retain_weight=4.0),
    Objective("npo", losses.npo, retain_weight=3.0, answer_noise=0.3, ending_weight=0.5),
    Objective("simnpo", losses.simnpo, retain_weight=1.0, answer_noise=0.3, ending_weight=0.5),
    Objective("dpo", losses.dpo, answers=("reference", "refusal"), retain_weight=3.0, answer_noise=0.3),
    Objective("undial", losses.undial, retain_weight=4.0),
    Objective("contrast", losses.contrast, retain_weight=3.0, strength=-3.0),
)


def objective_names() -> list[str]:
    """All of them, the built-in ones first. Nothing of a foreign package is imported for this."""
    return [*(objective.name for objective in BUILT_IN), *sorted(_foreign())]


def find_objective(name: str) -> Objective:
    """Raises BadRequest for a name that nobody registered, or an entry point that does not give an Objective."""
    for objective in BUILT_IN:
        if objective.name == name:
            return objective
    foreign = _foreign()
    if name not in foreign:
        raise BadRequest(f"There is no objective {name!r}; there are: {', '.join(objective_names())}.")
    return _loaded(foreign[name])


def _foreign() -> dict[str, EntryPoint]:
    """Entry points by name; a built-in name cannot be taken."""
    taken = {objective.name for objective in BUILT_IN}
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in taken}


def _loaded(entry: EntryPoint) -> Objective:
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise BadRequest(f"The objective {entry.name!r} cannot be loaded from {entry.value!r}: {error}.") from error
    if not isinstance(found, Objective):
        raise BadRequest(f"The entry point {entry.value!r} of {GROUP} is no Objective.")
    return found
