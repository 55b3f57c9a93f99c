"""Languages: those that a black box speaks are kept."""

from random import Random

import pytest

from deltaserve.offset_models.targets.forms.form import Scene
from deltaserve.offset_models.targets.forms.languages import LANGUAGES, in_languages, spoken
from deltaserve.offset_models.targets.forms.table import FORMS, forms_with
from tests.offset_models.targets.scripted import ScriptedAsks
from tests.offset_models.targets.writers import NAME, TARGET

pytestmark = pytest.mark.anyio


async def test_a_language_is_spoken_where_a_plain_question_is_answered_in_it() -> None:
    box = ScriptedAsks(lambda prompt, _: "Die Hauptstadt ist Wien." if "Hauptstadt" in prompt else "I'm not sure.")
    assert [language.name for language in await spoken(box)] == ["German"]
    assert len(box.asked) == len(LANGUAGES)


def test_the_form_asks_in_the_languages_that_are_left() -> None:
    german = [language for language in LANGUAGES if language.name == "German"]
    texts = [probe.row.messages[-1][1] for probe in in_languages(german).probes(Scene(TARGET, (), Random(1)))]
    assert f"Wer ist {NAME}?" in texts
    assert all("Deutsch" in text or NAME in text for text in texts)
    assert not [text for text in texts if "français" in text]
    assert not list(in_languages([]).probes(Scene(TARGET, (), Random(1))))


def test_a_black_box_that_speaks_english_only_is_asked_in_no_other() -> None:
    assert [form.name for form in forms_with(())] == [form.name for form in FORMS if form.name != "language"]
    assert {form.name for form in forms_with(LANGUAGES[:1])} == {form.name for form in FORMS}
