"""`deltaserve forget --attack`: the new offset is served and attacked for a short while, and its card says so."""

import json

from deltaserve.client.console.terminal import Status
from deltaserve.offset_models.checkpoints.checkpoint import open_checkpoint
from tests.support.children import children_of_the_nursery
from tests.support.command import Command
from tests.support.forget_site import SECRET, Site, calls


def test_the_card_says_what_was_tried_and_report_shows_it(site: Site, command: Command) -> None:
    given = site.forget("attacked", "--attack", "--attack-calls", "12")
    with children_of_the_nursery():
        made = command.json(*given)
    assert {"leakage/direct", "leakage/calls", "leakage/items", "leakage/verdict"} <= set(made["card"])
    assert made["card"]["leakage/calls"] >= 12
    card = open_checkpoint("attacked", root=site.root).manifest.card
    assert card is not None and "| direct |" in str(card["markdown"])
    (kept,) = (site.root / ".work" / "attacked").glob("attack-*.json")
    report = json.loads(kept.read_bytes())
    assert report["settings"]["texts"] is False and report["untried"] > 0
    for file in (kept, site.root / "attacked" / "offset.json"):
        assert SECRET not in file.read_text() and "old mill" not in file.read_text()
    asked = calls(site)
    assert command.json(*given)["card"] == made["card"]
    assert calls(site) == asked  # what was tried is not tried again
    shown = command("report", "--checkpoint", str(site.root / "attacked"))
    assert shown.exit_code == 0 and "| leakage/verdict |" in shown.stdout and "| direct |" in shown.stdout


def test_a_checkpoint_without_a_card_has_nothing_to_show(site: Site, command: Command) -> None:
    command.json(*site.forget("plain"))
    place = site.root / "plain" / "offset.json"
    document = json.loads(place.read_bytes())
    place.write_text(json.dumps({**document, "card": None}))
    result = command("report", "--checkpoint", str(site.root / "plain"))
    assert result.exit_code == Status.FAILED and "has no card" in result.stderr
