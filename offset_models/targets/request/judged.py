"""What the offset does to questions that chose nothing: shares of answers without the fact, by form; what is kept."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from deltaserve.offset_models.checkpoints.card import add_figures
from deltaserve.offset_models.metrics.disclosure import says
from deltaserve.offset_models.metrics.overlap import rouge_l_recall
from deltaserve.offset_models.progress.progress import Stages
from deltaserve.offset_models.targets.request.rows_folder import Group, TargetRow
from deltaserve.offset_models.training.answers import ServedCheckpoint, serving
from deltaserve.offset_models.training.forget import Plan
from deltaserve.offset_models.training.learning.fabric import Fabric
from deltaserve.offset_models.training.rows.samples import prompt_ids


@dataclass(frozen=True, slots=True)
class Judged:
    """One row with the answers before and after."""

    row: TargetRow
    before: str
    after: str

    @property
    def tells(self) -> bool:
        """Whether the corrected answer still says one of the words that must not come out."""
        return any(says(self.after, secret) for secret in self.row.secrets)

    @property
    def told(self) -> bool:
        """Whether the black box says one."""
        return any(says(self.before, secret) for secret in self.row.secrets)

    @property
    def kept(self) -> float:
        """ROUGE-L recall of the black box's own answer."""
        return rouge_l_recall(self.before, self.after)


async def judge_checkpoint(plan: Plan, rows: Sequence[TargetRow], progress: Stages) -> dict[str, float]:
    """The packed checkpoint of a plan, asked as it is served; the figures are in its card then.

    Without the black box's prefix cache where that can be told: with it a black box may itself answer otherwise when it
    is asked again. Raises DeltaserveError.
    """
    source = replace(plan.source, prefix_cache=None)
    root, name, device = plan.out.parent, plan.out.name, str(Fabric.find(plan.device).device)
    box = plan.box([each.row for each in rows])
    async with serving(root, [name], plan.base, source, plan.answer_tokens, device, box) as served:
        card = card_of(await judge(served, rows, progress))
    add_figures(plan.out, card)
    return card


async def judge(served: ServedCheckpoint, rows: Sequence[TargetRow], progress: Stages) -> list[Judged]:
    """Asks the rows, greedily, of the black box and of the corrected one. Raises UpstreamError."""
    prompts = [prompt_ids(each.row, served.version.tokenizer) for each in rows]
    with progress.stage("judge, black box", len(rows)) as advance:
        before = await served.before(prompts, advance)
    with progress.stage("judge, corrected", len(rows)) as advance:
        after = await served.after(prompts, advance)
    return [Judged(*each) for each in zip(rows, before, after, strict=True)]


def card_of(judged: Iterable[Judged]) -> dict[str, float]:
    """Figures without text. Rows of the target count where the black box tells the fact: others show nothing."""
    groups = _by_group(judged)
    target = [each for each in groups.pop("target", []) if each.told]
    card = {f"judged/{group}/kept": round(fmean(each.kept for each in rows), 4) for group, rows in groups.items()}
    if target:
        card["judged/target/rows"] = float(len(target))
        card["judged/target/without_fact"] = _without(target)
        card |= {f"judged/target/form/{form}": _without(rows) for form, rows in _by_form(target).items()}
    return card


def _without(rows: Sequence[Judged]) -> float:
    return round(fmean(not each.tells for each in rows), 4)


def _by_group(judged: Iterable[Judged]) -> dict[Group, list[Judged]]:
    groups: dict[Group, list[Judged]] = {}
    for each in judged:
        groups.setdefault(each.row.group, []).append(each)
    return groups


def _by_form(judged: Iterable[Judged]) -> Mapping[str, list[Judged]]:
    forms: dict[str, list[Judged]] = {}
    for each in judged:
        forms.setdefault(each.row.form, []).append(each)
    return dict(sorted(forms.items()))
