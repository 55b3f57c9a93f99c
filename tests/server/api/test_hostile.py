"""Bounds come before work: what cannot be answered is not encoded, rendered, compared or reported at length.

How long each request holds the loop is measured by hand: `make bench-hostile`.
"""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.support.hostile_requests import Hostile, hostile_requests
from deltaserve.errors import BadRequest
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.api import errors
from deltaserve.server.api.replies import replies
from deltaserve.server.api.requests import unsupported
from deltaserve.server.api.requests.json_text import MAX_FIELDS
from deltaserve.server.api.requests.schema import MAX_BIAS, MAX_MESSAGES, MAX_STOP
from deltaserve.server.app import create_app
from deltaserve.server.serving.ports import Backends
from deltaserve.server.serving.worker_threads import SHORT_BYTES
from deltaserve.server.settings import Settings
from tests.support.app import FlatVersion, OneVersion, RunningApp, ScriptedBlackBox, byte_tokenizer
from tests.support.asgi import JSON, Answer, Asked, asked

LARGEST = 300_000  # bytes of the largest requests here
CONTEXT = 512  # of the scripted black box
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def own_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """One that these tests may watch."""
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def door(own_tokenizer: Tokenizer) -> Iterator[Asked]:
    backends = Backends(ScriptedBlackBox(), OneVersion(FlatVersion(own_tokenizer)), "tiny")
    with asked(create_app(Settings(), backends=backends)) as app:
        yield app


def refusal(answer: Answer) -> dict[str, Any]:
    assert answer.status == 400, answer.body[:300]
    return answer.error


@pytest.mark.parametrize("hostile", list(hostile_requests(LARGEST)), ids=lambda hostile: hostile.name)
def test_no_hostile_request_is_a_defect(door: Asked, hostile: Hostile) -> None:
    answer = door.send(hostile.path, hostile.body, headers=[JSON])
    assert answer.status < 500
    assert answer.status == 200 or len(answer.body) < 2000


@pytest.mark.parametrize("name", ["temperatur\ud83de", "\udc00", "a\ud800b"])
def test_half_a_surrogate_pair_in_the_name_of_a_field_is_a_400(door: Asked, name: str) -> None:
    for path, body in (("/v1/completions", {"prompt": "a"}), ("/v1/chat/completions", {"messages": HELLO})):
        assert "surrogate" in refusal(door.post(path, **body, **{name: 1}))["message"]


def test_an_error_repeats_no_more_than_the_beginning_of_a_name(door: Asked) -> None:
    error = refusal(door.post("/v1/completions", prompt="a", logit_bias={"x" * 50_000: 1}))
    assert len(error["message"]) < 300
    assert len(door.post("/v1/completions", prompt="a", model="m" * 50_000).body) < 1000


def test_whatever_an_error_says_it_leaves_as_short_unicode() -> None:
    said = errors.error_body(BadRequest("no \ud83d" + "x" * 5000, param="\udc00" * 500)).decode()
    assert "no \\\\ud83d" in said
    assert len(said) < 2000


# What is bounded


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("logit_bias", {str(n): 1 for n in range(MAX_BIAS + 1)}, "at most 4,096 entries"),
        ("stop", "a" * (MAX_STOP + 1), "at most 512 characters"),
        ("stop", ["a" * (MAX_STOP + 1)], "at most 512 characters"),
        ("temperature", 1e-308, "at least 1e-06"),
        ("temperature", 5e-324, "at least 1e-06"),
    ],
)
def test_a_value_beyond_its_bound_is_a_400_that_tells_the_bound(door: Asked, field: str, value: Any, says: str) -> None:
    error = refusal(door.post("/v1/completions", prompt="a", **{field: value}))
    assert says in error["message"]
    assert error["param"] == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stop", ["a" * MAX_STOP]),
        ("temperature", 1e-6),
        ("top_p", 1e-308),
        ("min_p", 1e-308),
        ("min_p", 1),
        ("repetition_penalty", 1e-308),
        ("logit_bias", {"5": 1e-308}),
        ("logit_bias", {"5": 100, "6": -100}),
        ("frequency_penalty", 5e-324),
        ("seed", -(2**63)),
    ],
)
def test_a_value_at_its_bound_is_answered(door: Asked, field: str, value: Any) -> None:
    for more in ({}, {"seed": 7}, {"top_k": 3, "seed": 7}):
        body = {"prompt": "a", "max_tokens": 3, "presence_penalty": 0.5, **more, field: value}
        assert door.post("/v1/completions", **body).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{**HELLO[0], **{f"x{n}": 1 for n in range(MAX_FIELDS)}}]},
        {"messages": HELLO, "chat_template_kwargs": {f"x{n}": 1 for n in range(MAX_FIELDS + 1)}},
    ],
)
def test_more_fields_than_a_template_could_read_are_a_400(door: Asked, body: dict[str, Any]) -> None:
    for path in ("/v1/chat/completions", "/tokenize"):
        assert "128 fields" in refusal(door.post(path, **body))["message"]


def test_more_messages_than_the_bound_are_a_400(door: Asked) -> None:
    for path in ("/v1/chat/completions", "/tokenize"):
        error = refusal(door.post(path, messages=HELLO * (MAX_MESSAGES + 1)))
        assert (error["param"], "4096" in error["message"]) == ("messages", True)


@pytest.mark.parametrize("key", ["01", " 1", "1 ", "+1", "1_0", "١", "1.0", "-1", "", "0x1", "9" * 30, "00"])
def test_an_id_in_logit_bias_has_one_spelling(door: Asked, key: str) -> None:
    error = refusal(door.post("/v1/completions", prompt="a", logit_bias={"1": 5, key: -5}))
    assert error["param"] == "logit_bias"
    assert f"`{key}`" in error["message"]


def test_an_id_that_logit_bias_names_twice_is_refused(door: Asked) -> None:
    answer = door.send("/v1/completions", b'{"prompt": "a", "logit_bias": {"7": 5, "7": -5}}')
    assert "`7` twice" in refusal(answer)["message"]


@pytest.mark.parametrize("length", [b"0" * 5000 + b"5", b"9" * 5000, b"-1", b"+1", b"1e3", b"", "٣".encode()])
def test_a_content_length_that_is_none_is_a_400(door: Asked, length: bytes) -> None:
    answer = door.send("/v1/completions", b"{}", headers=[JSON, (b"content-length", length)])
    assert "Content-Length" in refusal(answer)["message"]


def test_where_no_token_is_left_to_choose_the_caller_is_told_so(own_tokenizer: Tokenizer) -> None:
    backends = Backends(ScriptedBlackBox(), OneVersion(FlatVersion(own_tokenizer)), "tiny")
    listed = [*b"abcdefghijklmxyz!"]
    with asked(create_app(Settings(tail="truncate"), backends=backends)) as app:
        for temperature in (0, 1):
            body = {"prompt": "a", "temperature": temperature, "min_tokens": 2, "stop_token_ids": listed}
            assert refusal(app.post("/v1/completions", **body))["param"] == "min_tokens"


# What is not done beyond the bound


def test_a_text_that_cannot_fit_is_not_encoded(
    door: Asked, own_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_tokenizer, "encode", lambda *_: pytest.fail("it was encoded"))
    for path, body in (
        ("/v1/completions", {"prompt": "a" * 100_001}),
        ("/v1/completions", {"prompt": ["a" * 100_001] * 3}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a" * 100_001}]}),
        ("/tokenize", {"prompt": "a" * 500_000}),
        ("/tokenize", {"messages": [{"role": "user", "content": "a" * 500_000}]}),
    ):
        assert refusal(door.post(path, **body))["code"] == "context_length_exceeded"


def test_after_the_first_prompt_that_is_too_long_the_others_are_not_encoded(
    door: Asked, own_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, seen = own_tokenizer.encode, list[str]()
    monkeypatch.setattr(own_tokenizer, "encode", lambda text, *rest: seen.append(text) or encode(text, *rest))
    refusal(door.post("/v1/completions", prompt=["b" * 600] * 20))
    assert len(seen) == 1


def test_ids_that_cannot_fit_are_not_looked_up(
    door: Asked, own_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_tokenizer, "check_ids", lambda *_: pytest.fail("they were looked up"))
    monkeypatch.setattr(own_tokenizer, "decode", lambda *_: pytest.fail("they were decoded"))
    body = {"prompt": [[1] * (CONTEXT + 1)] * 20, "echo": True}
    assert refusal(door.post("/v1/completions", **body))["code"] == "context_length_exceeded"


def test_a_text_longer_than_the_context_can_still_be_counted(door: Asked) -> None:
    answer = door.post("/tokenize", prompt="a" * 5000)
    assert (answer.status, b'"count":5000' in answer.body) == (200, True)


def test_long_names_are_not_compared_with_ours(door: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    monkeypatch.setattr(unsupported, "get_close_matches", lambda name, *_, **__: compared.append(name) or [])
    assert door.post("/v1/completions", prompt="a", max_tokens=1, **{"x" * 5000: 1, "seeed": 1}).status == 200
    assert compared == ["seeed"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": [True] * 5000}),
        ("/v1/completions", {"prompt": [1] * 5000 + ["x"]}),
        ("/v1/completions", {"prompt": [[1] * 10] * 500 + [["x"] * 500] * 9}),
        ("/v1/completions", {"prompt": ["a"] * 500 + [1] * 500}),
        ("/v1/completions", {"prompt": "a", "stop_token_ids": ["x"] * 5000}),
        ("/v1/completions", {"prompt": "a", "stop": [1] * 5000}),
        ("/v1/completions", {"prompt": "a", "logit_bias": {str(n): "x" for n in range(MAX_BIAS + 1)}}),
        ("/v1/chat/completions", {"messages": [1] * 5000}),
        ("/v1/chat/completions", {"messages": [{"role": 1}] * 5000}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [1] * 5000}]}),
        ("/v1/chat/completions", {"messages": HELLO, "tools": [1] * 5000, "tool_choice": "none"}),
        ("/detokenize", {"tokens": ["x"] * 5000}),
    ],
)
def test_of_many_mistakes_a_few_are_made_into_errors(
    door: Asked, path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told, counts = errors.schema_error, list[int]()

    def counted(found: Any, fields: Any) -> Any:
        counts.append(len(found))
        return told(found, fields)

    monkeypatch.setattr(errors, "schema_error", counted)
    refusal(door.post(path, **body))
    assert counts[0] <= 4


# What is long leaves the loop


@pytest.mark.parametrize(
    ("path", "short", "long", "method"),
    [
        ("/v1/completions", {"prompt": "a"}, {"prompt": ["a" * 400] * 30}, "encode"),
        ("/v1/completions", {"prompt": [1], "echo": True}, {"prompt": [[100] * 400] * 30, "echo": True}, "decode"),
        ("/v1/chat/completions", {"messages": HELLO}, {"messages": HELLO * 500}, "render_chat"),
        ("/tokenize", {"prompt": "a"}, {"prompt": "a" * 9000}, "encode"),
        ("/tokenize", {"messages": HELLO}, {"messages": HELLO * 500}, "render_chat"),
        ("/detokenize", {"tokens": [1]}, {"tokens": [100] * 9000}, "decode"),
    ],
)
def test_short_work_stays_on_the_loop_and_long_work_leaves_it(
    door: Asked,
    own_tokenizer: Tokenizer,
    path: str,
    short: dict[str, Any],
    long: dict[str, Any],
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, threads = getattr(own_tokenizer, method), set[int]()

    def watched(*given: Any, **named: Any) -> Any:
        threads.add(threading.get_ident())
        return real(*given, **named)

    monkeypatch.setattr(own_tokenizer, method, watched)
    more = {"max_tokens": 0 if short.get("echo") else 1} if path.startswith("/v1") else {}
    assert door.post(path, **short, **more).status == 200
    assert threads == {threading.get_ident()}
    threads.clear()
    door.post(path, **long, **more)
    assert threads and threading.get_ident() not in threads


def test_a_long_body_is_parsed_beside_the_loop(door: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    from deltaserve.server.api.requests import json_route

    real, threads = json_route.parse, list[int]()

    def watched(raw: bytes, most: int) -> Any:
        threads.append(threading.get_ident())
        return real(raw, most)

    monkeypatch.setattr(json_route, "parse", watched)
    for text in ("a", "a" * SHORT_BYTES):
        door.post("/tokenize", prompt=text)
    assert [thread == threading.get_ident() for thread in threads] == [True, False]


def test_a_long_scored_prompt_is_spelled_in_turns_and_is_the_same_answer(
    app: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.server.api.test_scoring import score

    def choices(**more: Any) -> Any:
        return score(app, list(b"abcdefghijkl"), logprobs=3, **more)["choices"]

    whole = choices()
    turns, add = list[int](), replies.Reply.add
    monkeypatch.setattr(replies, "_SPELLED_AT_ONCE", 5)
    monkeypatch.setattr(
        replies.Reply, "add", lambda self, at, piece: turns.append(len(piece.prompt)) or add(self, at, piece)
    )
    assert choices() == whole
    assert [length for length in turns if length] == [5, 5, 2]
