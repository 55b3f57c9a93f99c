"""The loop on a tiny random pair: step 0 is the black box, training forgets, retains, and repeats itself exactly."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from offset_models.training.adapter import TrainableLora
from offset_models.training.collect import TopK
from offset_models.training.data import Sample
from offset_models.training.objectives import imputed_logprobs
from offset_models.training.pair import TrainedPair
from offset_models.training.trainer import ROWS_A_PASS, Scored, TrainingSettings, positions, train_offset

torch.set_num_threads(1)
VOCABULARY = 32
SETTINGS = TrainingSettings(
    steps=60,
    forget_batch=2,
    retain_batch=2,
    learning_rate=3e-2,
    warm_up=2,
    rank=4,
    alpha=8,
    vocab_size=30,
    masked_ids=(5,),
)


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


FORGET = [scored((1, 2, 8), (10, 11), 15), scored((1, 4, 8), (10, 11), 15)]
RETAIN = [scored((1, 6, 3), (15, 16, 17), 15), scored((1, 7), (25,), 25)]
BATCH = [*FORGET, *RETAIN]  # lengths 5, 5, 6, 3


def test_step_zero_is_the_black_box() -> None:
    base = small_base()
    batch = positions(base, TrainableLora(base, 4, 8, 0), BATCH, SETTINGS)
    torch.testing.assert_close(batch.log_q, batch.log_p)
    listed = batch.log_p[1].exp()
    assert listed[15].item() == pytest.approx(0.9, abs=0.02)
    assert batch.sequences.tolist() == [0, 1, 1, 2, 2, 3, 3, 3]
    assert batch.targets.tolist() == [25, 10, 11, 10, 11, 15, 16, 17]


def test_padded_rows_and_missing_ids_never_get_probability() -> None:
    base = small_base()
    log_q = positions(base, TrainableLora(base, 4, 8, 0), FORGET, SETTINGS).log_q
    assert bool((log_q[:, [5, 30, 31]] == -torch.inf).all())


def test_padding_a_batch_does_not_change_a_row() -> None:
    base = small_base()
    lora = TrainableLora(base, 4, 8, 0)
    alone = positions(base, lora, RETAIN[1:], SETTINGS).log_p
    together = positions(base, lora, RETAIN, SETTINGS).log_p[:1]
    torch.testing.assert_close(alone, together)


def test_training_puts_the_refusal_first_and_leaves_the_retained_answer() -> None:
    base = small_base()
    reports: list[Mapping[str, float]] = []
    lora = train_offset(base, FORGET, RETAIN, SETTINGS, lambda _, parts: reports.append(dict(parts)))
    assert len(reports) == SETTINGS.steps
    assert reports[0]["retain"] == pytest.approx(0.0, abs=1e-5)
    assert reports[-1]["forget"] < 0.5 < 3 < reports[0]["forget"]
    log_q = positions(base, lora, BATCH, SETTINGS).log_q
    assert log_q.argmax(1).tolist() == [25, 10, 11, 10, 11, 15, 16, 17]


def test_a_batch_of_many_passes_is_the_same_as_its_parts() -> None:
    base = small_base()
    lora = TrainableLora(base, 4, 8, 0)
    whole = positions(base, lora, FORGET[:1] * (ROWS_A_PASS + 1), SETTINGS)
    alone = positions(base, lora, FORGET[:1], SETTINGS)
    torch.testing.assert_close(whole.log_q, alone.log_q.repeat(ROWS_A_PASS + 1, 1))
    assert whole.sequences.tolist() == [row for row in range(ROWS_A_PASS + 1) for _ in range(2)]


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another() -> None:
    def trained(seed: int) -> torch.Tensor:
        settings = TrainingSettings(steps=3, forget_batch=1, retain_batch=1, rank=2, alpha=4, seed=seed)
        lora = train_offset(small_base(), FORGET, RETAIN, settings, lambda *_: None)
        return torch.cat([parameter.flatten() for parameter in lora.parameters()])

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


def test_the_pair_gives_the_rows_that_training_saw() -> None:
    base = small_base()
    lora = train_offset(base, FORGET, RETAIN, SETTINGS, lambda *_: None)
    sample, top = FORGET[0]
    initial, unlearned = TrainedPair(base, lora, SETTINGS)([sample.prompt_ids, (1,)])
    seen = positions(base, lora, FORGET[:1], SETTINGS)
    log_p = imputed_logprobs(torch.from_numpy(top.ids[:1]), torch.from_numpy(top.logprobs[:1]), initial[:1])
    torch.testing.assert_close(log_p, seen.log_p[:1])
    q = torch.nan_to_num(log_p + unlearned[:1] - initial[:1], nan=-torch.inf).log_softmax(1)
    torch.testing.assert_close(q, seen.log_q[:1])


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="objectives: idk"):
        TrainingSettings(steps=1, objective="wish")
