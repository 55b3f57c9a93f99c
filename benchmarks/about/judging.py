"""What a checkpoint answers to the judge's questions, beside the black box's own answers.

Greedy, one at a time and without the black box's prefix cache: with it an answer would depend on those before it.
Both kinds of answers are kept on disk, so that a run that was cut off goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.about.probes import GROUPS, Group, JudgeProbe
from benchmarks.support.real_answers import known_answers, one_by_one
from deltaserve.client.evaluation.journal import Journal
from deltaserve.offset_models.checkpoints.checkpoint import read_manifest
from deltaserve.offset_models.metrics.overlap import rouge_l_recall
from deltaserve.offset_models.metrics.refusals import RefusalJudge
from deltaserve.offset_models.progress.progress import Stages
from deltaserve.offset_models.targets.subject import Subject
from deltaserve.offset_models.training.answers import ServedCheckpoint, serving
from deltaserve.offset_models.training.collecting.source import Source
from deltaserve.offset_models.training.rows.loading import read_refusals
from deltaserve.offset_models.training.rows.row import digest_of_ids
from deltaserve.offset_models.training.rows.samples import prompt_ids

ANSWERS = "answers"  # the black box's own, for all targets


@dataclass(frozen=True, slots=True)
class Answer:
    """One question's, as the black box and as the served checkpoint answer it."""

    group: Group
    form: str
    question: str
    before: str
    after: str
    told: bool  # of forget: a secret stands in the answer
    told_before: bool
    refused: bool
    refused_before: bool
    recall: float  # ROUGE-L, of the black box's own answer
    about_target: bool = False  # of what must stay: the black box names the target in its answer, which must not stay


@dataclass(frozen=True, slots=True)
class Where:
    """A checkpoint to be judged, in front of which black box, and where answers are kept."""

    checkpoint: Path
    base: Path
    source: Source
    work: Path
    answer_tokens: int = 64

    @property
    def run(self) -> dict[str, Any]:
        """Everything that an answer depends on."""
        manifest = read_manifest(self.checkpoint)
        served = {"strength": manifest.strength, "gate_nats": manifest.gate_nats}
        return {"checkpoint": manifest.content_digest, **served, "tokens": self.answer_tokens, "box": self.source.url}


async def judged(where: Where, target: Subject, probes: Sequence[JudgeProbe], progress: Stages) -> list[Answer]:
    """Every probe, asked of both. Raises BadCheckpoint, UpstreamError."""
    root, name = where.checkpoint.parent, where.checkpoint.name
    async with serving(root, [name], where.base, where.source, where.answer_tokens) as served:
        prompts = [prompt_ids(probe.row, served.version.tokenizer) for probe in probes]
        with (
            progress.stage("after", len(probes)) as advance,
            Journal(where.work / f"{name}.json", where.run) as journal,
        ):
            known = {entry["prompt"]: entry["after"] for entry in journal.entries}
            after = [await _after(served, ids, known, journal, advance) for ids in prompts]
        box, tokenizer = served.backends.upstream, served.version.tokenizer
        with progress.stage("black box", len(probes)) as advance:
            before = await known_answers(box, tokenizer, prompts, where.answer_tokens, where.work / ANSWERS, advance)
    judge = RefusalJudge.of(read_refusals())
    return [answer_of(judge, target, *one) for one in zip(probes, before, after, strict=True)]


def answer_of(judge: RefusalJudge, target: Subject, probe: JudgeProbe, before: str, after: str) -> Answer:
    return Answer(
        group=probe.group,
        form=probe.form,
        question=probe.text,
        before=before,
        after=after,
        told=probe.tells(after),
        told_before=probe.tells(before),
        refused=judge.refuses(after, before),
        refused_before=judge.refuses(before, ""),
        recall=rouge_l_recall(before, after),
        about_target=probe.group != "forget" and target.named_in(before),
    )


def figures(answers: Sequence[Answer]) -> dict[str, float]:
    """Of each group. forget/gone: without a secret, of those that the black box tells; kept: mean recall; refused:
    of those that the black box does not refuse.
    """
    found: dict[str, float] = {}
    for group in GROUPS:
        mine = [answer for answer in answers if answer.group == group and not answer.about_target]
        if not mine:
            continue
        found[f"{group}/asked"] = len(mine)
        found[f"{group}/refused"] = refused_share(mine)
        if group == "forget":
            found["forget/gone"] = gone_share(mine)
        else:
            found[f"{group}/kept"] = fmean(answer.recall for answer in mine)
    return found


def gone_share(answers: Sequence[Answer]) -> float:
    """Of what the black box tells, how much is not told; 1 where it tells nothing."""
    known = [answer for answer in answers if answer.told_before]
    return fmean(not answer.told for answer in known) if known else 1.0


def refused_share(answers: Sequence[Answer]) -> float:
    answered = [answer for answer in answers if not answer.refused_before]
    return fmean(answer.refused for answer in answered) if answered else 0.0


def by_form(answers: Sequence[Answer]) -> Mapping[str, tuple[int, int]]:
    """Of each form of the forget group: how many are not told, of how many that the black box tells."""
    known = [answer for answer in answers if answer.group == "forget" and answer.told_before]
    forms = dict.fromkeys(answer.form for answer in known)
    return {form: _counted([not answer.told for answer in known if answer.form == form]) for form in forms}


def as_lines(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """To be read by people."""
    return [asdict(answer) for answer in answers]


def _counted(flags: Sequence[bool]) -> tuple[int, int]:
    return sum(flags), len(flags)


async def _after(
    served: ServedCheckpoint, ids: Sequence[int], known: dict[str, str], journal: Journal, advance: Any
) -> str:
    key = digest_of_ids(ids).hex()
    if key not in known:
        (known[key],) = await one_by_one(served.after, [ids], advance)
        journal.add({"prompt": key, "after": known[key]})
    else:
        advance()
    return known[key]
