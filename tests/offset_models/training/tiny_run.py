"""A training run small enough for a test, with a black box of one page. `python -m … FOLDER` runs it as a process."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from deltaserve.offset_models.training.learning.batches import TrainingData
from deltaserve.offset_models.training.learning.fabric import Fabric
from deltaserve.offset_models.training.learning.reporting import Report
from deltaserve.offset_models.training.learning.run_folder import RunFolder, RunState
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.student import Student, new_student
from deltaserve.offset_models.training.learning.trainer import Trainer
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import Scored, TopK

VOCABULARY = 32
SETTINGS = TrainingSettings(
    steps=60,
    forget_batch=2,
    retain_batch=2,
    learning_rate=3e-2,
    warm_up=2,
    rank=4,
    alpha=8,
    save_every=5,
    vocab_size=30,
    masked_ids=(5,),
)
KILLED = replace(SETTINGS, steps=24, eval_every=6, accumulate=2, forget_batch=1)


def small_base() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=1.0,
    )
    model = LlamaForCausalLM(config)
    model.model.embed_tokens.weight.data *= 3  # untrained logits are too flat for a LoRA to move a token to the top
    return model


def scored(prompt: tuple[int, ...], answer: tuple[int, ...], certain: int) -> Scored:
    """A black box that puts 0.9 on the token `certain` + position and lists 3 more."""
    rows = [[certain + i, 20, 21, 22] for i in range(len(answer))]
    logprobs = np.log(np.tile([0.9, 0.05, 0.02, 0.01], (len(answer), 1))).astype(np.float32)
    return Sample(prompt, answer), TopK(np.array(rows, np.int64), logprobs)


REFUSAL = [scored((1, 2, 8), (10, 11), 15), scored((1, 4, 8), (10, 11), 15)]
REFERENCE = [scored((1, 2, 8), (15, 16, 17), 15), scored((1, 4, 8), (15, 16), 15)]
RETAIN = [scored((1, 6, 3), (15, 16, 17), 15), scored((1, 7), (25,), 25)]
DATA = TrainingData({"refusal": REFUSAL, "reference": REFERENCE}, RETAIN, REFERENCE, RETAIN)


def trained(
    folder: Path,
    settings: TrainingSettings = SETTINGS,
    data: TrainingData = DATA,
    report: Report = lambda _step, _figures: None,
    fabric: Fabric | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Student, RunState]:
    torch.set_num_threads(1)
    student = new_student(small_base().to(dtype), settings)
    state = Trainer(student, data, settings, RunFolder(folder), fabric or Fabric(torch.device("cpu")), report).run()
    return student, state


def main() -> None:
    fabric = Fabric.find("cpu")

    def report(step: int, _figures: Mapping[str, float]) -> None:
        print("step", step, flush=True)

    settings = replace(KILLED, accumulate=KILLED.accumulate // fabric.world)
    folder = Path(sys.argv[1])
    student, _ = trained(folder if fabric.main else folder / str(fabric.rank), settings, report=report, fabric=fabric)
    if fabric.main:
        student.save(folder / "adapter", "base")
    os._exit(0)  # torch's shutdown takes longer than the run


if __name__ == "__main__":
    main()
