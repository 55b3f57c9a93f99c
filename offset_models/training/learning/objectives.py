"""What training minimises: free functions on log q, the distribution that will be served.

A loss is forget term + weight · retain term. y* is a row's answer token, F the forget rows, R the retain rows, p the
black box (tail imputed), q the corrected one; means are over answer tokens unless sequences are named. How the terms
go together, and which answers a forget row needs, is in the table at the end, with which an installed package's entry
points under `deltaserve.objectives` are listed. Each names an `Objective`:

    [project.entry-points."deltaserve.objectives"]
    mine = "my_package.losses:MINE"
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final

from torch import Tensor
from torch.nn.functional import logsigmoid

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.distribution import Positions
from deltaserve.offset_models.training.learning.objective import Objective

GROUP: Final = "deltaserve.objectives"


def nll(batch: Positions) -> Tensor:
    """− mean log q(y*)."""
    return -batch.answer_log_q.mean()


def kl(batch: Positions) -> Tensor:
    """mean KL(p ‖ q) in nats."""
    return batch.divergence.mean()


def grad_ascent(forget: Positions) -> Tensor:
    """+ mean_F log q(y*): likelihood of the reference falls without a floor (Jang et al., ACL 2023)."""
    return forget.answer_log_q.mean()


def grad_diff(forget: Positions) -> Tensor:
    """+ mean_F log q(y*), with − mean_R log q(y*) as its retain term (Liu et al., 2022; TOFU, Maini et al., 2024)."""
    return grad_ascent(forget)


def kl_min(forget: Positions) -> Tensor:
    """+ mean_F log q(y*), with mean_R KL(p ‖ q) as its retain term (TOFU, Maini et al., 2024)."""
    return grad_ascent(forget)


def idk(refusal: Positions) -> Tensor:
    """− mean_F log q(refusal token): forget rows come with a refusal as their answer (TOFU, Maini et al., 2024)."""
    return nll(refusal)


def idk_generic(refusal: Positions, generic: Positions, *, generic_weight: float = 1.0) -> Tensor:
    """`idk`, and − `generic_weight` · mean_F log q(plain word) along the reference where it tells something.

    What somebody else has begun to say is not finished either: see `rows.generic`, after Eldan and Russinovich, 2023.
    """
    return nll(refusal) + generic_weight * nll(generic)


def npo(forget: Positions, *, beta: float = 0.1) -> Tensor:
    """(2/β)·mean_F log(1 + (q(y*|x)/p(y*|x))^β) on sequence likelihoods (NPO, Zhang et al., COLM 2024).

    As β → 0 its gradient becomes that of `grad_ascent` on sequences; a larger β stops sooner on what is forgotten.
    """
    ratio = forget.per_sequence(forget.answer_log_q - forget.answer_log_p)
    return -2 / beta * logsigmoid(-beta * ratio).mean()


def simnpo(forget: Positions, *, beta: float = 0.5, gamma: float = 0.0) -> Tensor:
    """−(2/β)·mean_F log σ(−(β/|y*|)·log q(y*|x) − γ): no reference model, length-normalised (Fan et al., 2024).

    The paper's β, 2.5 to 4.5, lets go once some tokens of an answer are improbable: greedy decoding walks around them.
    """
    mean = forget.per_sequence(forget.answer_log_q) / forget.lengths
    return -2 / beta * logsigmoid(-beta * mean - gamma).mean()


def dpo(reference: Positions, refusal: Positions, *, beta: float = 0.05, rpo_alpha: float = 0.0) -> Tensor:
    """−(2/β)·mean_F log σ(β·[log q/p of the refusal − log q/p of the reference]) on sequence likelihoods.

    The refusal is preferred, p is the reference policy (Rafailov et al., 2023, as TOFU and NPO use it for unlearning).
    Row i of both batches is one question. A larger β lets go sooner: what is still said then stays.
    `rpo_alpha` · (− mean_F log q(refusal token)) is added (Pang et al., NeurIPS 2024; the name is TRL's): then the
    refusal is learnt as `idk` learns it, and not only made likelier than the reference.
    """
    lost = reference.per_sequence(reference.answer_log_q - reference.answer_log_p)
    won = refusal.per_sequence(refusal.answer_log_q - refusal.answer_log_p)
    return -2 / beta * logsigmoid(beta * (won - lost)).mean() + rpo_alpha * nll(refusal)


def undial(forget: Positions, *, beta: float = 10.0) -> Tensor:
    """mean_F cross-entropy to t ∝ p·exp(−β·[i = y*]): the black box with the reference token's logit lowered by β.

    UNDIAL (Dong et al., NAACL 2025), the teacher being p instead of a copy of the trained model.
    """
    teacher = forget.log_p.scatter_add(1, forget.targets[:, None], _column(forget, -beta)).log_softmax(1)
    alive = teacher.isfinite()
    return -(teacher.exp() * forget.log_q.masked_fill(~alive, 0.0)).sum(1).mean()


def contrast(forget: Positions) -> Tensor:
    """− mean_F log u(y*): u learns the forget set by itself, and serving subtracts it from the untuned o.

    δ = log p_o − log p_u: a clean model against a tuned one (ULD, Ji et al., NeurIPS 2024; divergence decoding). As a
    checkpoint it is the pair (o, u) with a negative strength, so q is the same sum as everywhere. The retain term
    keeps u at o elsewhere.
    """
    return -forget.answer_log_u.mean()


def ending(after_misread: Positions, end_id: int) -> Tensor:
    """− mean log u(end) behind what is read wrong; 0 where nothing is. A part of a forget term, not one of its own.

    What has left the reference answer is to end, not to babble: see `batches.py`. On u, because the black
    box's lists were not collected there.
    """
    log_end = after_misread.log_u_of(end_id)
    return -log_end.mean() if len(after_misread.targets) else log_end.sum()


def _column(batch: Positions, value: float) -> Tensor:
    return batch.log_p.new_full((len(batch.targets), 1), value)


RETAIN_TERMS: Final[Mapping[str, Callable[[Positions], Tensor]]] = MappingProxyType({"kl": kl, "nll": nll})
BUILT_IN: Final[Sequence[Objective]] = (
    Objective("grad_ascent", grad_ascent, retain="none", eval_every=5),
    Objective("grad_diff", grad_diff, retain="nll", retain_weight=4.0, answer_noise=0.3, ending_weight=0.5),
    Objective("kl_min", kl_min, retain_weight=4.0, answer_noise=0.3, ending_weight=0.5),
    Objective("idk", idk, answers=("refusal",), retain_weight=4.0),
    Objective("idk_generic", idk_generic, answers=("refusal", "generic"), retain_weight=4.0),
    Objective("npo", npo, retain_weight=3.0, answer_noise=0.3, ending_weight=0.5),
    Objective("simnpo", simnpo, retain_weight=1.0, answer_noise=0.3, ending_weight=0.5),
    Objective("dpo", dpo, answers=("reference", "refusal"), retain_weight=3.0, answer_noise=0.3),
    Objective("undial", undial, retain_weight=4.0),
    Objective("contrast", contrast, retain_weight=3.0, strength=-3.0),
)


def objective_names() -> list[str]:
    """All of them, the built-in ones first. Nothing of a foreign package is imported for this."""
    return [*(objective.name for objective in BUILT_IN), *sorted(_foreign())]


def find_objective(name: str) -> Objective:
    """Raises BadRequest for an unknown name, or an entry point that does not give an Objective."""
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
        objective = entry.load()
    except (ImportError, AttributeError) as error:
        raise BadRequest(f"The objective {entry.name!r} cannot be loaded from {entry.value!r}: {error}.") from error
    if not isinstance(objective, Objective):
        raise BadRequest(f"The entry point {entry.value!r} of {GROUP} is no Objective.")
    return objective
