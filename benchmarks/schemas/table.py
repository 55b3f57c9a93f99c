"""What the command prints: two tables in Markdown."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

COUNTS = ("answers", "finished", "invalid answers", "tokens", "invalid tokens", "errors", "unlike whole")


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def served(ways: Mapping[tuple[str, int, float, float, bool], Counter[str]]) -> str:
    """Schemas, k, α, temperature, streamed → counts."""
    header = ["schemas", "k", "α", "T", "answer", *COUNTS]
    rows = [
        [of, k, f"{strength:g}", f"{temperature:g}", "streamed" if stream else "whole", *(counts[c] for c in COUNTS)]
        for (of, k, strength, temperature, stream), counts in ways.items()
    ]
    return markdown(header, rows)


def walked(files: Mapping[str, Counter[str]]) -> str:
    """A file of the suite → counts."""
    names = ("schemas", "taken", "valid", "valid taken", "invalid", "invalid taken", "walks", "invalid walks")
    whole = sum(files.values(), Counter[str]())
    rows = [[name, *(counts[n] for n in names)] for name, counts in files.items()]
    return markdown(["file", *names], [*rows, ["all", *(whole[n] for n in names)]])
