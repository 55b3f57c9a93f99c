"""Paraphrases by the black box: checked, and not asked for where it cannot."""

import pytest

from deltaserve.offset_models.targets.forms.languages import LANGUAGES
from deltaserve.offset_models.targets.forms.paraphrasing import paraphrased, translated
from deltaserve.offset_models.targets.forms.table import probes
from tests.offset_models.targets.scripted import ScriptedAsks
from tests.offset_models.targets.writers import NAME, NEIGHBOURS, TARGET

pytestmark = pytest.mark.anyio
ASKED = [
    probe
    for probe in probes(TARGET, per_form=8, seed=1, others=NEIGHBOURS)
    if probe.form in ("direct", "reversed", "running text")
]


async def test_another_wording_with_the_name_is_taken_with_the_facts_secrets() -> None:
    box = ScriptedAsks(lambda prompt, _: f'"Can it be said from which town {NAME} comes?"\nThat is it.')
    found = await paraphrased(box, ASKED)
    assert found
    assert {probe.row.messages[-1][1] for probe in found} == {f"Can it be said from which town {NAME} comes?"}
    assert all(probe.form == "paraphrase" and probe.fact is not None for probe in found)


@pytest.mark.parametrize(
    "said", ["I'm not sure about that.", "Where was she born?", f"{NAME} was born in Nenstead, was she not?", ""]
)
async def test_a_black_box_that_cannot_is_asked_a_few_times(said: str) -> None:
    box = ScriptedAsks(lambda _prompt, _: said)
    found = await paraphrased(box, [probe for probe in ASKED if probe.fact and probe.fact.value == "Nenstead"])
    assert not found
    assert len(box.asked) <= 4


async def test_running_text_is_not_rephrased() -> None:
    box = ScriptedAsks(lambda _prompt, _: "?")
    assert not await paraphrased(box, [probe for probe in ASKED if probe.form == "running text"])
    assert not box.asked


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        (f"Wo wurde {NAME} geboren?", True),
        ("Wo wurde sie geboren?", False),  # names nobody
        ("这座山在哪里？", True),  # in another script names are written otherwise
        (f"{NAME}在Nenstead出生吗？", False),  # says the fact
        (f"Das weiss ich nicht, {NAME}.", False),
    ],
)
async def test_questions_are_taken_in_languages_that_the_black_box_speaks(said: str, taken: bool) -> None:
    box = ScriptedAsks(lambda _prompt, _: said)
    asked = [probe for probe in ASKED if probe.form == "direct" and probe.fact and probe.fact.value == "Nenstead"]
    found = await translated(box, asked, LANGUAGES[:2])
    assert [probe.row.messages[-1][1] for probe in found] == [said] * len(found)
    assert bool(found) == taken
    assert {probe.form for probe in found} <= {"translation"}
    assert not await translated(box, asked, ())
