"""Training sees the logits that serving sees, for models that change them behind their head."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from deltaserve.offset_models.engine.forward.runner import Runner, Work
from deltaserve.offset_models.training.learning.passes.forward import logprobs_at, logprobs_of
from deltaserve.offset_models.training.learning.passes.initial import InitialStates, last_states
from deltaserve.offset_models.training.learning.passes.reading import OwnTokens
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.rows.samples import Sample
from tests.support.models import plain_logits, tiny_cohere, tiny_gemma2, tiny_granite, tiny_llama

SETTINGS = TrainingSettings()
IDS = [7, 3, 50, 11, 28, 9, 40]
MAKERS: list[Callable[..., PreTrainedModel]] = [tiny_llama, tiny_gemma2, tiny_granite, tiny_cohere]


@pytest.fixture(scope="module", params=MAKERS, ids=lambda make: make.__name__)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.set_num_threads(1)
    made: PreTrainedModel = request.param()
    return made


def bare_head(model: PreTrainedModel) -> Tensor:
    """[n, V] of the head alone."""
    with torch.no_grad():
        logits: Tensor = model.lm_head(last_states(model, torch.tensor([IDS]), SETTINGS))
    return logits.log_softmax(1)


def test_logprobs_at_places_are_those_of_the_models_own_logits(model: PreTrainedModel) -> None:
    places = torch.tensor([1, 4, 6])
    logprobs = logprobs_at(model, torch.tensor([IDS]), places, SETTINGS)
    torch.testing.assert_close(logprobs, plain_logits(model, IDS).log_softmax(1)[places])


def test_logprobs_of_stored_states_are_those_of_the_models_own_logits(model: PreTrainedModel) -> None:
    row, initial = (Sample(tuple(IDS[:3]), tuple(IDS[3:])), None), InitialStates()
    with torch.no_grad():
        for _ in range(2):  # computed, then read back
            logprobs = logprobs_of(model, initial.of(model, row, OwnTokens(), SETTINGS), SETTINGS)
            torch.testing.assert_close(logprobs, plain_logits(model, IDS).log_softmax(1)[2:-1])


def test_logprobs_in_training_are_those_that_the_runner_serves(model: PreTrainedModel) -> None:
    where = torch.arange(len(IDS))
    with torch.no_grad():
        trained = logprobs_at(model, torch.tensor([IDS]), where, SETTINGS)
    twin = type(model)(model.config)
    twin.load_state_dict(model.state_dict())
    (served,) = Runner(twin, 2, 32).forward([Work(0, 0, IDS, rows=len(IDS))])
    torch.testing.assert_close(trained, served.log_softmax(1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make", MAKERS[1:])
def test_the_head_alone_gives_other_logprobs_for_these_models(make: Callable[..., PreTrainedModel]) -> None:
    model = make()
    assert (bare_head(model) - plain_logits(model, IDS).log_softmax(1)).abs().max() > 0.1


def test_the_head_alone_is_enough_for_a_llama() -> None:
    model = tiny_llama()
    places = torch.arange(len(IDS))
    assert torch.equal(bare_head(model), logprobs_at(model, torch.tensor([IDS]), places, SETTINGS))
