"""A client that does not say how to draw gets what the model's makers recommend, as with vLLM."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.app import RunningApp, byte_tokenizer, running_app

NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
TELLING = {"temperature": 0.0, "top_p": 0.01, "top_k": 1, "min_p": 1.0}  # each alone makes a draw the likeliest token
ROUTES = ("/v1/completions", "/v1/chat/completions")
LIKELIEST = "cdefgh"  # behind the two bytes of the prompt


def recommending(folder: Path, **numbers: float) -> Tokenizer:
    byte_tokenizer(folder)
    (folder / "generation_config.json").write_text(json.dumps(numbers))
    return Tokenizer.load(folder)


@pytest.fixture(params=TELLING.items(), ids=TELLING)
def telling(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[RunningApp, str]]:
    name, value = request.param
    with running_app(recommending(tmp_path, **{name: value}), admin_key="k") as app:
        yield app, name


def texts(app: RunningApp, route: str = ROUTES[0], **body: Any) -> list[str]:
    """Of 16 choices, drawn without a seed unless `body` has one."""
    asked = {"prompt": "ab"} if route == ROUTES[0] else {"messages": [{"role": "user", "content": "ab"}]}
    answer = httpx.post(app.url + route, json={"max_tokens": 6, "n": 16, **asked, **body}, timeout=30)
    assert answer.status_code == 200, answer.text
    return [choice["text"] if "text" in choice else choice["message"]["content"] for choice in answer.json()["choices"]]


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_left_out_is_as_recommended_for_completions_and_chats_alike(
    telling: tuple[RunningApp, str], route: str
) -> None:
    app, name = telling
    assert len(set(texts(app, route))) == 1
    assert len(set(texts(app, route, **{name: None}))) == 1  # null means not given


@pytest.mark.parametrize("route", ROUTES)
def test_an_explicit_value_wins_also_where_it_is_the_usual_default(telling: tuple[RunningApp, str], route: str) -> None:
    app, name = telling
    hot = {"temperature": 2.0}  # at 1 the scripted black box is believed, and it says the same every time
    assert len(set(texts(app, route, **{name: NEUTRAL[name], **hot}))) > 1
    assert name == "temperature" or len(set(texts(app, route, **hot))) == 1


def test_a_recommended_penalty_acts_and_can_be_taken_back(tmp_path: Path) -> None:
    with running_app(recommending(tmp_path, temperature=0, repetition_penalty=9.0)) as app:
        assert set(texts(app, prompt="abcdefgh")) != set(texts(app, prompt="abcdefgh", repetition_penalty=1))


def test_a_seed_means_with_the_recommendation_what_it_means_with_the_same_numbers_given(tmp_path: Path) -> None:
    numbers = {"temperature": 0.6, "top_p": 0.95, "top_k": 40, "min_p": 0.01}
    with running_app(recommending(tmp_path, **numbers)) as app:
        left_out = texts(app, seed=5)
        assert left_out == texts(app, seed=5, **numbers) != texts(app, seed=5, **NEUTRAL)


def test_the_recommendation_can_be_switched_off_and_is_shown_on_the_models_card(tmp_path: Path) -> None:
    tokenizer = recommending(tmp_path, top_k=1)
    for setting, shown, alike in (("auto", {"top_k": 1}, True), ("none", {}, False)):
        with running_app(tokenizer, generation_config=setting) as app:
            card = httpx.get(app.url + "/v1/models").json()["data"][0]
            assert card["sampling_defaults"] == shown
            assert (len(set(texts(app, temperature=2))) == 1) is alike


def test_the_black_boxs_own_answer_is_drawn_at_the_recommended_temperature_too(tmp_path: Path) -> None:
    with running_app(recommending(tmp_path, temperature=0.0), admin_key="k") as app:
        body, key = {"prompt": "ab", "max_tokens": 6}, {"x-admin-key": "k"}
        app.box.calls = 0
        asked = [httpx.post(app.url + "/playground/before", json=body, headers=key).json() for _ in range(4)]
        assert {answer["choices"][0]["text"] for answer in asked} == {LIKELIEST}
