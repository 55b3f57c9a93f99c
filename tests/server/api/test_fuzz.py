"""Whatever a client sends: no status of 500, and every error has one shape.

Bodies begin as valid ones and are spoilt, so that most of the code behind the door is reached; those that stay valid
are answered. A few hundred by default; HYPOTHESIS_PROFILE=search draws thousands.
"""

import gzip
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.api.doors.messages.schema import MessagesRequest
from deltaserve.server.api.doors.responses.schema import ResponsesRequest
from deltaserve.server.api.requests.schema import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from deltaserve.server.app import create_app
from deltaserve.server.serving.ports import Backends
from deltaserve.server.settings import Settings
from tests.support.administration import ADMIN_KEY, administered_app
from tests.support.app import FlatVersion, OneVersion, ScriptedBlackBox
from tests.support.asgi import JSON, Answer, Asked, asked
from tests.support.offsets import BookkeepingEngine, lora_checkpoint

CASES = 40 if os.environ.get("HYPOTHESIS_PROFILE", "steady") == "steady" else 2000
MANY = settings(max_examples=CASES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
TEXT = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

COMPLETION = {
    "model": "tiny", "prompt": "hello", "max_tokens": 3, "n": 1, "temperature": 0.7, "top_p": 0.9, "top_k": 5,
    "min_p": 0.01, "presence_penalty": 0.1, "frequency_penalty": 0.1, "repetition_penalty": 1.1, "logit_bias": {"5": 1},
    "seed": 1, "stop": ["zz"], "stop_token_ids": [7], "min_tokens": 1, "ignore_eos": False, "logprobs": 2,
    "stream": False, "stream_options": None, "echo": False, "best_of": 1, "return_token_ids": True, "user": "u",
    "add_special_tokens": True, "return_tokens_as_token_ids": False, "suffix": None, "response_format": None,
}  # fmt: skip
COMMON = {name: value for name, value in COMPLETION.items() if name not in ("prompt", "logprobs", "echo", "best_of")}
CHAT = {
    **COMMON, "messages": TEXT, "logprobs": True, "top_logprobs": 2, "add_generation_prompt": True,
    "continue_final_message": False, "chat_template_kwargs": {"a": 1}, "tools": [TOOL], "tool_choice": "none",
}  # fmt: skip
ITEMS = [
    *TEXT, {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]},
]  # fmt: skip
RESPONSE = {
    "model": "tiny", "input": ITEMS, "instructions": "a", "max_output_tokens": 3, "temperature": 0.7, "top_p": 0.9,
    "include": ["message.output_text.logprobs"], "top_logprobs": 2, "text": {"format": {"type": "text"}},
    "reasoning": {"effort": None}, "tools": [{"type": "function", "name": "f", "parameters": {}}],
    "tool_choice": "none", "store": False, "parallel_tool_calls": True, "metadata": {"a": "b"}, "seed": 1,
    "bad_words": ["zz"],
}  # fmt: skip
USED = [
    *TEXT, {"role": "assistant", "content": [{"type": "text", "text": "a"}]},
    {"role": "user", "content": [{"type": "text", "text": "b"}]},
]  # fmt: skip
PROMPT = {
    "model": "tiny", "messages": USED, "system": SCHEMA, "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "none"}, "thinking": {"type": "disabled"}, "output_config": {"effort": None},
}  # fmt: skip
MESSAGE = {
    **PROMPT,
    "max_tokens": 3,
    "stop_sequences": ["zz"],
    "metadata": {"user_id": "u"},
    "top_k": 5,
    "stream": False,
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/responses": RESPONSE,
    "/v1/responses/input_tokens": {"input": "a", "instructions": "b"},
    "/v1/messages": MESSAGE,
    "/v1/messages/count_tokens": PROMPT,
    "/v1/completions": COMPLETION,
    "/v1/chat/completions": CHAT,
    "/tokenize": {"prompt": "hello", "messages": None, "add_special_tokens": True, "return_token_strs": True},
    "/detokenize": {"model": "tiny", "tokens": [1, 2, 256]},
    "/playground/before": {"messages": TEXT, "max_tokens": 2, "temperature": 0.5, "seed": 1, "stop": ["z"]},
    "/admin/offsets": {"name": "b", "path": "b", "strength": 0.5, "activate": False, "sum": None},
    "/admin/offsets/a": {"strength": 0.5},
    "/admin/offsets/a/activate": {},
    "/admin/offsets/rollback": {},
}
PATCHED = ("/admin/offsets/a",)

WHOLE = [0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**40, 10**399, True, False]
FLOATS = [1e308, -1e308, 1e-308, 5e-324, 1e-5, 2.0, 0.1, math.nan, math.inf, -math.inf]
NUMBERS = st.sampled_from([*WHOLE, *FLOATS])
SPELLINGS = ["", "a", "0.5", "true", "1", "01", " 1", "+1", "1_0", "١", "none", "text", "tiny@x", "é漢"]
ODD = ["\x00", "\ud83d", "\udc00x", "\ud83d\ude00", "\ufeff", "../../etc/passwd", "a/b", "x" * 300]
MARKUP = ["{{ 1/0 }}", "{% raw %}", "<|im_start|>"]
STRINGS = st.sampled_from([*SPELLINGS, *ODD, *MARKUP])
SCALARS = st.one_of(st.none(), NUMBERS, STRINGS, st.text(max_size=5))
KEYS = st.one_of(STRINGS, st.sampled_from(["role", "content", "type", "text", "name", "include_usage", "tool_calls"]))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
FIELDS = sorted(
    {*COMPLETION, *CHAT, *RESPONSE, *MESSAGE, "tokens", "explain", "max_completion_tokens", "temperatur"}
    | {"guided_json", "structured_outputs", "guided_choice", "guided_regex", "structural_tag"}
)


@st.composite
def spoilt(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """Some fields left out, some given other values, some added, one perhaps under another name."""
    kept = {name: value for name, value in body.items() if draw(st.integers(0, 9))}
    for name in draw(st.lists(st.sampled_from(sorted(body) or FIELDS), max_size=2)):
        kept[name] = draw(VALUES)
    if not draw(st.integers(0, 3)):
        kept[draw(st.one_of(st.sampled_from(FIELDS), STRINGS))] = draw(VALUES)
    return kept


@st.composite
def bytes_of(draw: st.DrawFn, body: dict[str, Any]) -> bytes:
    """Its JSON, now and then not quite."""
    text = json.dumps(draw(spoilt(body)))
    raw = text.encode("utf-8", "surrogatepass")
    at = draw(st.integers(0, len(raw)))
    kinds = [
        raw[:at],
        raw[:at] + b"\x00" + raw[at:],
        raw[:at] + b"\xff" + raw[at:],
        raw[:at] + b"\xed\xa0\x80" + raw[at:],
    ]
    kinds += [
        b"\xef\xbb\xbf" + raw,
        gzip.compress(raw),
        text.encode("utf-16", "surrogatepass"),
        b"[" * 100_000,
        b"",
        raw * 2,
    ]
    kinds += [raw.replace(b":1", b":1e400"), raw.replace(b":1", b":" + b"9" * 5000), b"{" + raw[1:-1] + b"," + raw[1:]]
    return draw(st.sampled_from([raw] * 3 * len(kinds) + kinds))


HEADER_VALUES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [b"application/json", b"application/vnd.x+json; charset=utf-16", b"text/plain", b"Bearer \xed\xa0\x80"]
    )
    | st.sampled_from([b"0" * 5000 + b"5", b"-1", b"9" * 5000, b"1e3", b"gzip", b"Bearer", b"x" * 5000]),
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"content-type", b"content-length", b"x-request-id", b"content-encoding", b"x-admin-key", b"accept"]
        ),
        HEADER_VALUES,
    ),
    max_size=2,
)
QUERIES = st.sampled_from(
    [b"", b"", b"wait=true", b"wait=%ed%a0%80", b"limit=\xff", b"wait=1e400&wait=", b"&&=%", b"x" * 3000]
)
SEGMENTS = st.one_of(STRINGS, st.text(max_size=4))


@pytest.fixture(scope="module")
def public(tokenizer: Tokenizer) -> Iterator[Asked]:
    """Two routes more than by default: those that the admin key opens."""
    given_settings = Settings(admin_key=ADMIN_KEY, admin_requests_per_minute=10**9)
    backends = Backends(ScriptedBlackBox(), OneVersion(FlatVersion(tokenizer)), "tiny")
    with asked(create_app(given_settings, backends=backends)) as app:
        yield app


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    made = tmp_path_factory.mktemp("made") / "offsets"
    made.mkdir()
    for seed, name in enumerate(("a", "b"), start=1):
        lora_checkpoint(made, name, seed=10 * seed)
    root = Path(shutil.copytree(made, tmp_path_factory.mktemp("served") / "offsets"))
    app = administered_app(root, BookkeepingEngine(), admin_requests_per_minute=10**9, api_keys=())
    with asked(app) as started:
        yield started


@pytest.fixture
def door(request: pytest.FixtureRequest, path: str) -> Asked:
    """Who answers at `path`."""
    found: Asked = request.getfixturevalue("admin" if path.startswith("/admin") else "public")
    return found


KEY = (b"authorization", f"Bearer {ADMIN_KEY}".encode())


def holds(answer: Answer) -> None:
    assert answer.status < 500, answer.body
    if answer.status >= 400:
        assert len(answer.error["message"]) < 1100
        answer.body.decode()


@pytest.mark.parametrize("path", BODIES)
def test_no_body_makes_the_server_fail(door: Asked, path: str) -> None:
    method = "PATCH" if path in PATCHED else "POST"

    @MANY
    @given(body=bytes_of(BODIES[path]), headers=HEADERS, query=QUERIES)
    def check(body: bytes, headers: list[tuple[bytes, bytes]], query: bytes) -> None:
        holds(door.send(path, body, method=method, headers=[JSON, KEY, *headers], query=query))

    check()


@pytest.mark.parametrize("path", ["/v1/models/", "/admin/offsets/", "/admin/audit", "/"])
def test_no_path_or_query_makes_the_server_fail(door: Asked, path: str) -> None:
    @MANY
    @given(
        segment=SEGMENTS,
        ending=st.sampled_from(["", "/activate", "/rollback", "/x"]),
        method=st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS", "\ud800"]),
        query=QUERIES,
        body=st.sampled_from([b"", b"{}", b'{"strength":1}']),
    )
    def check(segment: str, ending: str, method: str, query: bytes, body: bytes) -> None:
        if (method, segment + ending) != ("DELETE", "b"):
            answer = door.send(path + segment + ending, body, method=method, headers=[JSON, KEY], query=query)
            assert answer.status < 500, answer.body

    check()


@pytest.mark.parametrize("path", ["/admin/offsets/\ud83d/activate", "/admin/offsets/\ud83d", "/v1/\udc00"])
def test_half_a_surrogate_pair_in_a_path_is_a_400(door: Asked, path: str) -> None:
    for method in ("POST", "DELETE", "GET", "PATCH"):
        assert door.send(path, b'{"strength":1}', method=method, headers=[JSON, KEY]).status == 400


@pytest.mark.parametrize("path", BODIES)
def test_the_bodies_that_are_spoilt_are_valid_ones(door: Asked, path: str) -> None:
    """Else the cases above would all end at the door."""
    body = {name: value for name, value in BODIES[path].items() if value is not None}
    method = "PATCH" if path in PATCHED else "POST"
    answer = door.send(path, json.dumps(body).encode(), method=method, headers=[JSON, KEY])
    # Conflict: no rollback before a swap, and what the cases above have loaded is there already.
    assert answer.status in (200, 202) or (path.startswith("/admin") and answer.status == 409), answer.body


def test_every_route_that_takes_a_body_is_among_them(public: Asked) -> None:
    document = json.loads(public.send("/openapi.json", method="GET").body)
    taken = {path for path, methods in document["paths"].items() if {"post", "patch", "put"} & methods.keys()}
    assert {path.replace("{name}", "a") for path in taken} == set(BODIES)


MODELS = {
    "/v1/completions": CompletionRequest,
    "/v1/chat/completions": ChatRequest,
    "/v1/responses": ResponsesRequest,
    "/v1/messages": MessagesRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}


@pytest.mark.parametrize(("path", "model"), MODELS.items())
def test_every_number_of_the_schema_takes_a_hostile_one_without_failing(door: Asked, path: str, model: Any) -> None:
    hostile = [
        "1e400",
        "-1e400",
        "NaN",
        "Infinity",
        "1e-308",
        "1e308",
        "5e-324",
        "9" * 30,
        "9" * 390,
        "9" * 5000,
        "true",
    ]
    hostile += ['"\\ud800"', '"\\u0000"', "[]", "{}", '"1"', "9223372036854775808", "-9223372036854775809", "0", "-0.0"]
    base = {name: value for name, value in BODIES[path].items() if value is not None}
    for name in model.model_fields:
        for literal in hostile:
            other = json.dumps({key: value for key, value in base.items() if key != name})
            body = f'{other[:-1]}{", " if len(other) > 2 else ""}"{name}": {literal}}}'
            holds(door.send(path, body.encode(), headers=[JSON, KEY]))
