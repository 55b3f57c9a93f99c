"""lm-eval as people run it: its own command, unmodified, against a server's /v1/completions."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = "LM_EVAL_BIN"
TASKS = Path(__file__).parent.parent / "fixtures" / "lmeval"
NAMES = ("deltaserve_choice", "deltaserve_text", "deltaserve_answer")
_WITHIN_S = 400


def command() -> str | None:
    return os.environ.get(COMMAND) or shutil.which("lm_eval")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What lm-eval wrote down."""

    figures: Mapping[str, Mapping[str, float]]  # task → metric → value
    answers: Mapping[str, list[Any]]  # task → what each request came back with

    @property
    def pairs(self) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, greedy) of every choice."""
        return [(float(value), greedy == "True") for item in self.answers[NAMES[0]] for ((value, greedy),) in item]


def lm_eval(url: str, model: str, folder: Path, *, concurrent: int = 4) -> Evaluation:
    """The shipped tasks, with nothing told of the tokenizer: it asks the server."""
    found = command()
    assert found is not None
    settings = f"model={model},base_url={url}/v1/completions,num_concurrent={concurrent},max_retries=1"
    run = subprocess.run(
        [
            Path(found).absolute(), "run", "--model", "local-completions", "--model_args", settings,
            "--include_path", ".", "--tasks", ",".join(NAMES), "--output_path", folder, "--log_samples",
        ],
        cwd=TASKS, env=_environment(folder), capture_output=True, text=True, timeout=_WITHIN_S,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-4000:]
    return _read(folder)


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of this project, nothing from the network, nothing left in the home folder."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}


def _read(folder: Path) -> Evaluation:
    (results,) = folder.rglob("results_*.json")
    figures = {
        task: {name.removesuffix(",none"): value for name, value in found.items() if isinstance(value, float)}
        for task, found in json.loads(results.read_text("utf-8"))["results"].items()
    }
    answers = {task: _answers(next(results.parent.glob(f"samples_{task}_*.jsonl"))) for task in NAMES}
    return Evaluation(figures, answers)


def _answers(samples: Path) -> list[Any]:
    rows = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
    return [row["resps"] for row in sorted(rows, key=lambda row: row["doc_id"])]
