"""From what was found out to rows: what is trained, what chooses, and what judges."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.asking.asker import Asker
from deltaserve.offset_models.targets.forms.form import Form
from deltaserve.offset_models.targets.forms.languages import Language, spoken
from deltaserve.offset_models.targets.forms.paraphrasing import paraphrased, translated
from deltaserve.offset_models.targets.forms.table import forms_with, probes, shares
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.request.gathering import Gathered
from deltaserve.offset_models.targets.request.rows_folder import Part, Parts, TargetRow
from deltaserve.offset_models.targets.request.sizes import Shares
from deltaserve.offset_models.targets.request.worded import worded
from deltaserve.offset_models.targets.rows.beside import beside
from deltaserve.offset_models.targets.rows.endings import vague_endings
from deltaserve.offset_models.targets.rows.refusing import forget_rows, retain_rows
from deltaserve.offset_models.targets.rows.selecting import Selected, selected
from deltaserve.offset_models.targets.rows.sizes import Sizes
from deltaserve.offset_models.targets.rows.splitting import Split, split_rows
from deltaserve.offset_models.targets.rows.telling import Told, few_of_each, held_out_weights, telling, told, weighed
from deltaserve.offset_models.training.rows.row import Row

LEAST_TOLD: Final = 12  # rows that choose: fewer say too little about 48 candidates of strength and gate
TOO_FEW: Final = (
    f"The black box answered fewer than {LEAST_TOLD} held-out rows with the fact, too few to choose by: the plain "
    "default of strength and gate is taken. More --calls find more."
)
TRIED: Final = 2  # probes of each form that are asked to see whether the black box tells anything in it
ASKED: Final = "asked"  # the form of questions that people might ask
GENERAL: Final = "general"


async def compose(
    asks: Asker, gathered: Gathered, calls: Shares, sizes: Sizes, seed: int
) -> tuple[Parts, tuple[str, ...]]:
    """All rows, and sentences on what was held out. Raises as `Asks.ask`."""
    languages = await spoken(asks.stage("languages", calls.languages))
    forms = forms_with(languages)
    told_in = await _told_in(asks.stage("telling", calls.telling), gathered, forms, sizes, seed)
    weights, held_out = weighed(shares(forms), told_in), held_out_weights(shares(forms), told_in)
    chosen = selected(
        gathered.target, gathered.neighbours, sizes, seed, forms=forms, weights=weights, held_out=held_out
    )
    more = worded(gathered.target, gathered.around)[: sizes.forget // 3]
    more = [*more, *gathered.recited, *await _reworded(asks, chosen.forget, languages, calls)]
    forget = await _forget(asks, chosen.forget, more, gathered, calls, sizes)
    notes = (chosen.forget.sentence, *gathered.notes, *(() if forget["choose-forget"] else (TOO_FEW,)))
    near = await _reworded(asks, chosen.kept, languages, calls)
    return Parts({**forget, **_retain(chosen, near, gathered, sizes, seed)}), notes


async def _told_in(
    asks: Asks, gathered: Gathered, forms: Sequence[Form], sizes: Sizes, seed: int
) -> Mapping[str, Told]:
    """In which forms the black box tells anything."""
    made = probes(gathered.target, per_form=TRIED, seed=seed, others=gathered.neighbours, forms=forms)
    tried = few_of_each(made, TRIED)[: asks.calls_left]
    return await telling(asks, tried, max_tokens=sizes.answer_tokens)


async def _forget(
    asks: Asker, parts: Split, more: Sequence[Probe], gathered: Gathered, calls: Shares, sizes: Sizes
) -> dict[Part, Sequence[TargetRow]]:
    train = [*parts.train, *more]
    endings = await vague_endings(asks.stage("endings", calls.endings), train)
    asked = asks.stage("answers", calls.answers)
    known = await told(asked, parts.choose, sizes.choose, max_tokens=sizes.answer_tokens)
    rows = forget_rows(train, gathered.refusals.chat, endings, gathered.refusals.text)
    forms = _forms_of(train)
    return {
        "forget": [TargetRow(row, forms[_key(row)], "target") for row in rows],
        "choose-forget": [TargetRow.of(probe, "target") for probe in known] if len(known) >= LEAST_TOLD else [],
        "judge-forget": [TargetRow.of(probe, "target") for probe in parts.judge],
    }


async def _reworded(asks: Asker, parts: Split, languages: Sequence[Language], calls: Shares) -> list[Probe]:
    """Some of the questions that are trained, as the black box itself puts them; none that is held out."""
    held = {probe.prompt for probe in (*parts.train, *parts.choose, *parts.judge)}
    reworded = await paraphrased(asks.stage("paraphrases", calls.paraphrases), parts.train)
    reworded += await translated(asks.stage("translations", calls.translations), parts.train, languages)
    return [probe for probe in reworded if probe.prompt not in held]


def _retain(
    chosen: Selected, reworded: Sequence[Probe], gathered: Gathered, sizes: Sizes, seed: int
) -> dict[Part, Sequence[TargetRow]]:
    """Neighbours in the target's forms and beside the target, what people might ask, and the package's prompts."""
    target, others, refusals = gathered.target, gathered.neighbours, gathered.refusals.chat
    train = [*chosen.kept.train, *reworded, *beside(target, others, refusals, count=sizes.beside, seed=seed)]
    asked, general = split_rows(gathered.questions, seed), split_rows(gathered.general, seed)
    return {
        "retain": _kept(train, asked[0][: sizes.asked], general[0][: sizes.general]),
        "choose-retain": _kept(chosen.kept.choose, asked[1][: sizes.choose // 4], general[1][: sizes.choose // 2]),
        "judge-retain": _kept(chosen.kept.judge, asked[2][: sizes.judge // 4], general[2][: sizes.judge // 2]),
    }


def _kept(near: Sequence[Probe], asked: Sequence[Row], general: Sequence[Row]) -> list[TargetRow]:
    forms = _forms_of(near)
    return [
        *(TargetRow(row, forms[_key(row)], "neighbour") for row in retain_rows(near)),
        *(TargetRow(row, ASKED, "neighbour") for row in asked),
        *(TargetRow(row, GENERAL, "general") for row in general),
    ]


def _forms_of(found: Iterable[Probe]) -> dict[object, str]:
    return {_key(probe.row): probe.form for probe in found}


def _key(row: Row) -> object:
    return row.messages, row.begun, row.prompt
