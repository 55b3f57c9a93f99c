"""A training set has each fact in each form that has rows enough."""

from collections import Counter

from deltaserve.offset_models.targets.forms.table import probes
from deltaserve.offset_models.targets.spreading import portioned
from tests.offset_models.targets.writers import NEIGHBOURS, TARGET


def test_a_form_with_many_rows_has_each_fact_before_any_comes_again_in_it() -> None:
    made = [probe for probe in probes(TARGET, per_form=40, seed=1, others=NEIGHBOURS) if probe.fact]
    direct, running = ([probe for probe in made if probe.form == form] for form in ("direct", "running text"))
    unequal = [probe for probe in direct if probe.fact == TARGET.facts[0]]  # whose fact was taken before
    taken = portioned([*unequal, *running], len(unequal) + 8, {"direct": 100.0}, seed=1)
    times = Counter(probe.fact for probe in taken if probe.form == "running text")
    assert set(times) == set(TARGET.facts)
    assert set(times.values()) == {2}
