"""What the demo prints."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import orjson

from deltaserve.client.console.tables import say_pairs, say_table
from deltaserve.client.console.terminal import say, say_json
from deltaserve.client.demo.ask import Pair
from deltaserve.client.demo.check import Report


def show_answers(pairs: Sequence[Pair], links: Mapping[str, str | None], model: str, as_json: bool) -> None:
    """Prints answers before and after, and what to try next. `links`: addresses and keys by name; `server` is one."""
    question, url = pairs[0].question, links["server"] or ""
    if as_json:
        say_json({"answers": [asdict(one) for one in pairs], "model": model, **links})
        return
    say_pairs([(one.split, one.question, one.black_box, one.served) for one in pairs])
    say(f"\n{curl(url, model, question)}\n\n{snippet(url, model, question)}\n")
    for name, value in links.items():
        say(f"{name.replace('_', ' '):<12}{value}")


def curl(url: str, model: str, question: str) -> str:
    """A request to try, for a POSIX shell."""
    body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0})
    return f"curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(body.decode())}"


def snippet(url: str, model: str, question: str) -> str:
    """The same request with openai-python."""
    return f"""from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="none")
answer = client.chat.completions.create(
    model="{model}", temperature=0, messages=[{{"role": "user", "content": {question!r}}}]
)
print(answer.choices[0].message.content)"""


def show_report(report: Report, as_json: bool) -> None:
    """Prints the figures, and which claims hold."""
    if as_json:
        say_json(asdict(report))
        return
    by_measure: dict[str, dict[tuple[str, str], float]] = {}
    for name, figure in report.figures.items():
        *measure, what, side = name.split("/")
        by_measure.setdefault(measure[0] if measure else "ROUGE-L recall", {})[what, side] = figure
    for measure_name, figures in by_measure.items():
        _show_figures(measure_name, figures)
    say_table(["claim", "holds"], [[claim, "yes" if holds else "NO"] for claim, holds in report.holds.items()])


def _show_figures(measure: str, figures: Mapping[tuple[str, str], float]) -> None:
    """Prints one table: `figures` by (what they are of, who was measured)."""
    sides = list(dict.fromkeys(side for _, side in figures))
    rows = [
        [what, *(_figure(figures.get((what, side))) for side in sides)]
        for what in dict.fromkeys(what for what, _ in figures)
    ]
    say_table([measure, *sides], rows)
    say("")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
