"""What `deltaserve forget` says at its end."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

from deltaserve.client.console.tables import say_table
from deltaserve.client.console.terminal import note, say, say_json
from deltaserve.client.console.training_options import note_left_out

if TYPE_CHECKING:
    from deltaserve.offset_models.checkpoints.manifest import Manifest
    from deltaserve.offset_models.training.collecting.job import Forecast
    from deltaserve.offset_models.training.forget import ForgetResult, Plan

DEFAULT_K: Final = 20  # as of `serve`


def announce(forecast: "Forecast") -> None:
    """Before anything is asked: rows left out, remarks on the black box, and the calls that it will take."""
    note_left_out(forecast.bad)
    for text in forecast.notes:
        note(f"Note: {text}")
    if forecast.cost.calls:
        note(f"{forecast.cost.calls:,} calls to {forecast.collection.model}, top {forecast.collection.k}.")


def show(
    plan: "Plan", result: "ForgetResult", card: dict[str, Any], active: str | None, more_rows: str, as_json: bool
) -> None:
    """The card, and how to serve the checkpoint."""
    state = result.trained.state
    if state.stopped is not None:
        note(state.stopped)
    if result.manifest.strength < 0:
        note("Its small model has learnt the forget set, to be subtracted: keep this checkpoint as secret as the set.")
    if as_json:
        say_json(_facts(plan, result, card, active))
        return
    say_table(("figure", "value"), [(figure, str(value)) for figure, value in card.items()])
    if not card.get("held_out"):
        note(f"These are figures of rows that were trained on: {more_rows}.")
    say(f"{plan.out}: offset {plan.name}, {_version(result)}")
    if active is not None:
        say(f"active: {active}")
        return
    options = serving_options(plan, result.manifest)
    say("Check it, then serve it:")
    say(f"  deltaserve doctor {options}")
    say(f"  deltaserve serve {options}")


def serving_options(plan: "Plan", manifest: "Manifest") -> str:
    """Options of `serve` for the checkpoint, quoted for a shell; with --base where the base is not beside it."""
    root = plan.out.parent
    given = {"--upstream-url": plan.source.url, "--offsets-root": _path(root), "--offset": plan.out.name}
    given |= {"--upstream-model": plan.source.model} if plan.source.model else {}
    given |= {} if plan.upstream_tokenizer is None else {"--upstream-tokenizer": _path(plan.upstream_tokenizer)}
    given |= {"--upstream-k": str(plan.source.k)} if plan.source.k != DEFAULT_K else {}
    if manifest.base is not None and manifest.base.path is None:
        given["--base"] = _path(plan.base)
    return " ".join(f"{option} {quote(value)}" for option, value in given.items())


def _facts(plan: "Plan", result: "ForgetResult", card: dict[str, Any], active: str | None) -> dict[str, Any]:
    manifest, trained = result.manifest, result.trained
    return {
        "path": str(plan.out),
        "new": result.new,
        "content_digest": manifest.content_digest,
        "stopped": trained.state.stopped,
        "serve": f"deltaserve serve {serving_options(plan, manifest)}",
        "strength": manifest.strength,
        "gate_nats": manifest.gate_nats,
        "kept_step": trained.kept_step,
        "active": active,
        "card": card,
    }


def _version(result: "ForgetResult") -> str:
    there = "" if result.new else ", as it was there already"
    served = f"strength {result.manifest.strength:g}, gate {result.manifest.gate_nats:g} nats"
    return f"step {result.trained.kept_step}, {served}, {result.manifest.content_digest[:12]}{there}"


def _path(path: Path) -> str:
    """The path as it was given; one that begins with a dash gets ./ in front."""
    return f"./{path}" if str(path).startswith("-") else str(path)
