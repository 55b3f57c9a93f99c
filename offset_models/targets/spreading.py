"""Some of many probes, so that every fact, every wording and every form has its part."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random

from deltaserve.offset_models.targets.probe import Probe


@dataclass(slots=True)
class Uses:
    """How often facts, facts in a form, and wordings were taken."""

    taken: Counter[object] = field(default_factory=Counter)

    def of(self, probe: Probe) -> tuple[int, int, int]:
        """Less is better: a form with many rows has each fact before any comes again in it."""
        fact, form, wording = _counted(probe)
        return self.taken[form], self.taken[fact], self.taken[wording]

    def take(self, probe: Probe) -> Probe:
        self.taken.update(_counted(probe))
        return probe


def spread(candidates: Sequence[Probe], count: int, rng: Random, uses: Uses | None = None) -> list[Probe]:
    """`count` of the candidates, each time one whose fact and wording were taken least so far."""
    left, uses = rng.sample(list(candidates), len(candidates)), uses or Uses()
    taken = list[Probe]()
    while left and len(taken) < count:
        best = min(range(len(left)), key=lambda at: uses.of(left[at]))
        taken.append(uses.take(left.pop(best)))
    return taken


def portioned(candidates: Sequence[Probe], count: int, shares: Mapping[str, float], seed: int) -> list[Probe]:
    """`count` of the candidates, each form with its share; what a form cannot fill goes to the others.

    Forms without a share get 1. The order is that of the candidates. Deterministic.
    """
    rng, uses = Random(f"{seed}/portioned"), Uses()
    by_form = dict[str, list[Probe]]()
    for probe in candidates:
        by_form.setdefault(probe.form, []).append(probe)
    sizes = _quotas({form: len(found) for form, found in by_form.items()}, count, shares)
    taken = {id(probe) for form, found in by_form.items() for probe in spread(found, sizes[form], rng, uses)}
    return [probe for probe in candidates if id(probe) in taken]


def _quotas(available: Mapping[str, int], count: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How many of each form: one by one to the form that has least of its share so far."""
    given = dict.fromkeys(available, 0)

    def filled(form: str) -> float:
        share = shares.get(form, 1.0)
        return (given[form] + 0.5) / share if given[form] < available[form] and share > 0 else inf

    for _ in range(min(count, sum(available.values()))):
        least = min(available, key=filled, default=None)
        if least is None or filled(least) == inf:
            break
        given[least] += 1
    return given


def _counted(probe: Probe) -> tuple[object, object, object]:
    """The fact, the fact in this form, and the wording."""
    about = _about(probe)
    return ("fact", about), ("form", probe.form, about), ("wording", probe.form, probe.wording)


def _about(probe: Probe) -> object:
    """What it asks for: its fact, of subjects as a whole the subject."""
    return probe.fact or probe.subject
