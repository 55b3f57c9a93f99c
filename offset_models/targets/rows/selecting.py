"""From a target and its neighbours to the probes of a run: in all forms, parted, no more than there is time for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deltaserve.offset_models.targets.forms.form import Form
from deltaserve.offset_models.targets.forms.table import FORMS, probes, shares
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.rows.sizes import Sizes
from deltaserve.offset_models.targets.rows.splitting import Split, split, split_kept
from deltaserve.offset_models.targets.spreading import portioned
from deltaserve.offset_models.targets.subject import Known

# How much more of a form is kept of neighbours than its share. There the refusal is no chat's usual one, or the name is
# what is asked for, and in the demo's first runs a quarter of what the black box says was lost.
KEPT_MORE: Final = {
    "running text": 2.0, "begun answer": 2.0, "begun sentence": 2.0, "reversed": 1.5, "continuation": 1.5,
    "described": 1.5,
}  # fmt: skip
CANDIDATES: Final = 3  # probes that may choose, for each that is wanted: only those do that the black box answers


@dataclass(frozen=True, slots=True)
class Selected:
    """Of the target, to be forgotten, and of its neighbours, to be kept, in the same forms."""

    forget: Split
    kept: Split


def selected(
    target: Known,
    neighbours: Sequence[Known],
    sizes: Sizes,
    seed: int,
    *,
    forms: Sequence[Form] = FORMS,
    weights: Mapping[str, float] | None = None,
    held_out: Mapping[str, float] | None = None,
) -> Selected:
    """`weights` of forms default to the table's shares, those of `held_out` rows to the weights of the trained ones.

    The same for the same arguments.
    """
    weights = shares(forms) if weights is None else weights
    held_out = weights if held_out is None else held_out
    asked = probes(target, per_form=sizes.per_form, seed=seed, others=neighbours, forms=forms)
    forget = split(asked, target.facts, seed, forms)
    kept = split_kept(_of_neighbours(neighbours, sizes, seed, forms), forget, seed)
    more = {form: share * KEPT_MORE.get(form, 1.0) for form, share in weights.items()}
    candidates = replace(sizes, choose=CANDIDATES * sizes.choose)
    return Selected(
        thinned(forget, sizes.forget, candidates, weights, held_out, seed),
        thinned(kept, sizes.near, sizes, more, held_out, seed),
    )


def thinned(
    parts: Split,
    train: int,
    sizes: Sizes,
    weights: Mapping[str, float],
    held_out: Mapping[str, float],
    seed: int,
) -> Split:
    """No more of each part than wanted, each form with its share."""

    def some(probes: Sequence[Probe], count: int, weights: Mapping[str, float]) -> tuple[Probe, ...]:
        return tuple(portioned(probes, count, weights, seed))

    return replace(
        parts,
        train=some(parts.train, train, weights),
        choose=some(parts.choose, sizes.choose, held_out),
        judge=some(parts.judge, sizes.judge, held_out),
    )


def _of_neighbours(neighbours: Sequence[Known], sizes: Sizes, seed: int, forms: Sequence[Form]) -> list[Probe]:
    return [
        probe
        for known in neighbours
        for probe in probes(known, per_form=sizes.per_form_near, seed=seed, others=neighbours, forms=forms)
    ]
