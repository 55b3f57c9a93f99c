"""One page for a person who looks through the rows of a request before anything is trained on them."""

from collections import Counter
from collections.abc import Iterable, Sequence

from deltaserve.offset_models.targets.request.rows_folder import PARTS, Parts, TargetRow
from deltaserve.offset_models.targets.subject import Known

_MEANING = {
    "forget": "trained: what must go",
    "retain": "trained: what must stay",
    "choose-forget": "chooses step, strength and gate: what must go",
    "choose-retain": "chooses step, strength and gate: what must stay",
    "judge-forget": "chooses nothing, is asked at the end: what must go",
    "judge-retain": "chooses nothing, is asked at the end: what must stay",
}


def summary(target: Known, neighbours: Sequence[Known], parts: Parts, notes: Sequence[str]) -> str:
    """Markdown: what will go, what will stay, which files say so."""
    lines = [f"# To be forgotten: {target.subject.name} ({target.subject.kind})", ""]
    if target.subject.aliases:
        lines += [f"Other names that count: {', '.join(target.subject.aliases)}.", ""]
    lines += ["## What the black box knows, and what will go", "", *_facts(target), ""]
    lines += ["## What is near and will stay", ""]
    lines += [f"- {each.subject.name}" + (f" ({each.why})" if each.why else "") for each in neighbours]
    lines += [
        "",
        "## Files",
        "",
        "Edit the lines, remove some, add your own; then run the same command without",
        "--review.",
        "",
    ]
    lines += [f"- `{part}.jsonl`, {len(parts[part])} rows: {_MEANING[part]}. {_forms(parts[part])}" for part in PARTS]
    if notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _facts(target: Known) -> list[str]:
    if not target.facts:
        return ["Nothing that it repeats when it is asked again."]
    return [f"- {fact.attribute}: {fact.answer} ({fact.support:.0%} of the answers)" for fact in target.facts]


def _forms(rows: Iterable[TargetRow]) -> str:
    counts = Counter(row.form for row in rows)
    return ", ".join(f"{form} {count}" for form, count in counts.most_common()) + "." if counts else "None."
