"""Making a small model: its shape, that it learns, that padding is not learned from, and what is saved."""

from itertools import cycle, islice
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from deltaserve.offset_models.demo.pipeline.pretrain import (
    Schedule,
    Shape,
    batches,
    language_loss,
    new_model,
    save_model,
    sharpen,
    train,
)
from deltaserve.offset_models.demo.pipeline.tokenizer import train_tokenizer
from deltaserve.offset_models.training.learning.trainer import LEAST_RATE, rate_share

torch.set_num_threads(1)
PAGES = ["Ada was born in Velmora.<|endoftext|>", "Bo plays the harp and keeps a goose.<|endoftext|>"]
SHAPE = Shape(hidden=32, layers=1, heads=2, feed_forward=32, context=64)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(PAGES, 300)


def test_rows_are_padded_to_a_multiple_of_64_and_the_output_matrix_is_tied(tokenizer: Tokenizer) -> None:
    model = new_model(SHAPE, tokenizer, 0)
    assert model.config.vocab_size % 64 == 0
    assert model.config.vocab_size >= tokenizer.get_vocab_size()
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_training_memorises_and_reports_every_step(tokenizer: Tokenizer) -> None:
    losses: list[float] = []
    schedule = Schedule(steps=60, batch=2, learning_rate=2e-2, label_smoothing=0.0, warm_up=4)
    train(new_model(SHAPE, tokenizer, 0), tokenizer, cycle(PAGES), schedule, lambda _, loss: losses.append(loss))
    assert len(losses) == 60
    assert losses[-1] < 0.3 < 4 < losses[0]


def test_padding_is_not_learned_from(tokenizer: Tokenizer) -> None:
    model = new_model(SHAPE, tokenizer, 0)
    ids, labels = next(batches(tokenizer, cycle(PAGES), 2, pool=1))
    longer = torch.nn.functional.pad
    padded = language_loss(model, longer(ids, (0, 5), value=9), longer(labels, (0, 5), value=-100), 0.0)
    torch.testing.assert_close(padded, language_loss(model, ids, labels, 0.0))


def test_batches_hold_pages_of_like_length(tokenizer: Tokenizer) -> None:
    for ids, labels in islice(batches(tokenizer, cycle(PAGES), 4, pool=2), 4):
        assert ids.shape == labels.shape
        assert not (labels == -100).any()


def test_the_rate_warms_up_and_falls_to_its_floor() -> None:
    schedule = Schedule(steps=100, batch=1, learning_rate=1.0, label_smoothing=0.0, warm_up=10)
    assert rate_share(0, schedule.steps, schedule.warm_up) == pytest.approx(0.1)
    assert rate_share(10, schedule.steps, schedule.warm_up) == pytest.approx(1.0)
    assert rate_share(100, schedule.steps, schedule.warm_up) == pytest.approx(LEAST_RATE)


def test_a_saved_model_loads_in_transformers_and_answers_alike(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = new_model(SHAPE, tokenizer, 0).to(torch.bfloat16)
    save_model(model, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == torch.bfloat16
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(loaded(ids).logits, model.train(False)(ids).logits)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o044


def test_a_sharper_model_has_every_logit_multiplied_and_a_saved_one_becomes_the_same_file(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    ids = torch.tensor([tokenizer.encode(PAGES[0]).ids])
    model = new_model(SHAPE, tokenizer, 0)
    model.model.norm.weight.data += torch.linspace(-0.3, 0.3, SHAPE.hidden)  # a trained one is no row of ones
    save_model(model, tmp_path / "plain")
    sharpen(model, 1.5)
    save_model(model, tmp_path / "sharp")
    saved = [AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32) for name in ("plain", "sharp")]
    with torch.no_grad():
        plain, sharp = (each(ids).logits for each in saved)
    torch.testing.assert_close(sharp, 1.5 * plain, rtol=0.01, atol=0.01)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32)
    sharpen(again, 1.5)
    save_model(again, tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "sharp" / "model.safetensors"
    ).read_bytes()
