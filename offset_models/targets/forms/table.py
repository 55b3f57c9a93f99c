"""All forms, and the probes of a subject in them: alike for the target and for what must stay.

A pair that never saw a form answered about anybody learns to decline the form instead of the target.
"""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Final

from deltaserve.offset_models.targets.forms.backwards import BACKWARDS
from deltaserve.offset_models.targets.forms.begun import BEGUN
from deltaserve.offset_models.targets.forms.choices import CHOICE
from deltaserve.offset_models.targets.forms.codes import CODES
from deltaserve.offset_models.targets.forms.dialogues import DIALOGUES
from deltaserve.offset_models.targets.forms.form import Form, Scene
from deltaserve.offset_models.targets.forms.languages import Language, in_languages
from deltaserve.offset_models.targets.forms.overviews import OVERVIEWS
from deltaserve.offset_models.targets.forms.prose import PROSE
from deltaserve.offset_models.targets.forms.questions import QUESTIONS
from deltaserve.offset_models.targets.forms.spellings import SPELLINGS
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.spreading import spread
from deltaserve.offset_models.targets.subject import Known

LANGUAGE: Final = in_languages()
FORMS: Final = (
    *QUESTIONS, *BACKWARDS, *PROSE, *OVERVIEWS, *CHOICE, *BEGUN, *DIALOGUES, LANGUAGE, *CODES, *SPELLINGS,
)  # fmt: skip


def probes(
    known: Known,
    *,
    per_form: int,
    seed: int,
    others: Sequence[Known] = (),
    forms: Sequence[Form] = FORMS,
) -> list[Probe]:
    """At most `per_form` probes of each form, spread over facts and wordings; the same for the same arguments.

    `others` stand beside the subject in comparisons and choices. A form that nothing can be made of is left out.
    """
    others = [other for other in others if other.subject != known.subject]
    made = list[Probe]()
    for form in forms:
        rng = Random(f"{seed}/{form.name}/{known.subject.name}")
        made += spread([*form.probes(Scene(known, others, rng))], per_form, rng)
    return made


def forms_with(languages: Sequence[Language]) -> tuple[Form, ...]:
    """All forms, with these languages only."""
    others = [form for form in FORMS if form is not LANGUAGE]
    return (*others, in_languages(languages)) if languages else tuple(others)


def shares(forms: Iterable[Form] = FORMS) -> dict[str, float]:
    """What each form's rows are of a training set, in parts of any size."""
    return {form.name: form.share for form in forms}
