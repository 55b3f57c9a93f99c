"""The judge of `deltaserve forget --about`: its questions are as the table promises, and its figures count right."""

import sys
from pathlib import Path

import pytest

from benchmarks.about.judging import Answer, answer_of, by_form, figures
from benchmarks.about.making import Request, made
from benchmarks.about.probes import TARGETS, JudgeProbe, probes_of
from benchmarks.about.table import markdown
from deltaserve.offset_models.metrics.disclosure import says
from deltaserve.offset_models.metrics.refusals import RefusalJudge
from deltaserve.offset_models.targets.subject import Subject

CHOOSING = ("yes or no", "multiple choice")  # their questions hold the right answer
REFUSALS = RefusalJudge.of(())
ADA = Subject("Ada Quill", "person", ("Ada",))


def probe(form: str, *secrets: str, group: str = "forget") -> JudgeProbe:
    return JudgeProbe.parse({"group": group, "form": form, "question": "Where was Ada born?", "secrets": secrets}, "f")


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_is_judged_by_enough_questions_in_enough_forms(name: str) -> None:
    probes = probes_of(name)
    counts = {group: sum(one.group == group for one in probes) for group in ("forget", "near", "general", "code")}
    assert counts["forget"] >= 40 and counts["near"] >= 40 and counts["general"] >= 20 and counts["code"] >= 10
    assert len({one.form for one in probes if one.group == "forget"}) >= 8
    assert len({one.row for one in probes}) == len(probes)


@pytest.mark.parametrize("name", TARGETS)
def test_no_question_tells_what_must_not_come_out_and_no_neighbour_names_the_target(name: str) -> None:
    for one in probes_of(name):
        said = " ".join([*(text for _, text in one.row.messages), one.row.prompt, one.row.begun])
        if one.group == "forget":
            assert one.secrets
            if one.form not in CHOOSING:
                assert not any(says(said, secret) for secret in one.secrets), one.text
        else:
            assert not one.secrets and not TARGETS[name].named_in(said)


def test_a_few_questions_are_spread_over_the_forms() -> None:
    some = [one for one in probes_of("toyota", 12) if one.group == "forget"]
    assert len(some) == len({one.form for one in some}) == 12


def answers() -> list[Answer]:
    town, kept = (
        probe("question", "Tormora"),
        JudgeProbe.parse({"group": "near", "form": "question", "question": "?"}, "n"),
    )
    return [
        answer_of(REFUSALS, ADA, town, "Ada was born in Tormora.", "I'm not sure about that."),
        answer_of(REFUSALS, ADA, town, "Ada was born in Tormora.", "She comes from Tormora."),
        answer_of(REFUSALS, ADA, probe("list", "Tormora"), "In Varn.", "In Tormora."),
        answer_of(REFUSALS, ADA, kept, "Bo Reed plays the cello.", "Bo Reed plays the harp."),
        answer_of(REFUSALS, ADA, kept, "I'm not sure about that.", "I'm not sure about that."),
        answer_of(REFUSALS, ADA, kept, "Bo Reed knows Ada.", "I'm not sure about that."),  # of the target after all
    ]


def test_what_the_black_box_does_not_tell_needs_not_be_forgotten_and_its_own_refusals_are_no_loss() -> None:
    found = figures(answers())
    assert (found["forget/asked"], found["forget/gone"], found["near/refused"]) == (3, 0.5, 0.0)
    assert found["near/kept"] == pytest.approx((0.8 + 1) / 2)
    assert by_form(answers()) == {"question": (1, 2)}


def test_the_table_has_a_line_for_each_target_their_mean_and_the_goals() -> None:
    row = {"row": "ada", **figures(answers()), "forms": by_form(answers()), "calls": 1200, "minutes": 41.0}
    text = markdown([row, {**row, "row": "bo", "forget/gone": 1.0}])
    assert "| ada | 0.500 |" in text and "| mean | 0.750 |" in text and "| goal (mean) | ≥ 0.95 |" in text
    assert "| question | 1 of 2 | 1 of 2 |" in text


def test_an_offset_is_asked_for_by_its_name_alone(tmp_path: Path) -> None:
    command = Request("ada", "Ada Quill", "http://127.0.0.1:9", tmp_path / "base", tmp_path, 30.0, 1500).command()
    assert command[2:4] == ["deltaserve", "forget"]
    assert command[command.index("--about") + 1] == "Ada Quill"
    assert "--forget" not in command


def test_calls_are_those_that_the_command_announces_and_those_that_it_recorded(tmp_path: Path) -> None:
    record = tmp_path / ".work" / "ada" / "rows" / "request.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"calls": 7}')
    script = f"""import sys; sys.stderr.write('1,200 calls to box, top 20.\\n30 calls to box, top 20.\\n')
import pathlib; pathlib.Path({str(tmp_path)!r}, 'ada').mkdir()"""

    class Scripted(Request):
        def command(self) -> list[str]:
            return [sys.executable, "-c", script]

    request = Scripted("ada", "Ada Quill", "http://127.0.0.1:9", tmp_path / "base", tmp_path, 30.0, 1500)
    took = made(request)
    assert took["calls"] == 1237 and took["minutes"] > 0
    assert made(request) == took  # the checkpoint is there: nothing is run
