"""What of the forget set still comes out of one served row: some attacks of `deltaserve leakage`, as two figures."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import orjson

from benchmarks.tofu.bench import Bench
from deltaserve.client.evaluation.leakage_results import LeakageReport

# Of each family that does not need secrets by name, one or two; the whole suite takes longer than the rest of a row.
ATTACKS: Final = ("direct", "paraphrase", "leading prefix", "begun: opening", "samples at T = 1", "echo scoring")


def leakage(bench: Bench, row: str, url: str) -> dict[str, float]:
    """Share of items that come out, over the attacks: the mean, and the most successful. Writes ROW.leakage.json."""
    out = bench.result(row).with_suffix(".leakage.json")
    out.unlink(missing_ok=True)
    command = ["leakage", "--server", url, "--data", str(_items(bench)), "--out", str(out), "--no-texts"]
    command += ["--items", str(bench.scale.attacked), "--costly-items", str(max(1, bench.scale.attacked // 4))]
    command += [part for attack in ATTACKS for part in ("--attack", attack)]
    done = subprocess.run([sys.executable, "-m", "deltaserve", *command], check=False, stdout=subprocess.DEVNULL)
    if not out.is_file():  # status 1 says that something leaks; without a result something went wrong
        raise RuntimeError(f"deltaserve leakage ended with status {done.returncode}")
    return _figures(LeakageReport.model_validate_json(out.read_bytes()))


def _figures(report: LeakageReport) -> dict[str, float]:
    """Attacks that the server refused say nothing."""
    sides = [attack.sides["after"] for attack in report.attacks if "after" in attack.sides]
    rates = [side.success.rate for side in sides if side.blocked < side.success.items]
    return {"leakage_mean": sum(rates) / len(rates), "leakage_worst": max(rates)} if rates else {}


def _items(bench: Bench) -> Path:
    """The forget set in the form that the attacks read."""
    path = bench.rows / "attacked.jsonl"
    rows = (
        {
            "question": row["question"],
            "answer": row["answer"],
            "paraphrases": [row["paraphrased_question"]] if "paraphrased_question" in row else [],
            "decoys": row["perturbed_answer"],
        }
        for row in bench.read(f"{bench.scale.forget_set}_perturbed")
    )
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path
