"""Greedy answers through the API: step by step, ended by the end token, changed by the pair and by nothing else."""

import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest
import torch
from torch import Tensor

from offset_models.demo.questions import Question
from offset_models.demo.rollout import PROMPTS_A_CALL, Rollout, rouge_l_recall
from offset_models.demo.tokenizer import save_tokenizer, train_tokenizer
from offset_models.tokenizer import Tokenizer
from offset_models.training.collect import Source

pytestmark = pytest.mark.anyio
QUESTIONS = [Question("Where?", "ab", None, "letters"), Question("Who?", "ab", None, "letters")]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(["a b c"], 259), folder, 64)
    return Tokenizer.load(folder)


class Alphabet:
    """A black box that answers "ab" and ends; its second best token is always `c`, after which it ends too."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.a, self.b, self.c = (tokenizer.encode(letter, False)[0] for letter in "abc")
        self.end = tokenizer.eos_ids[0]
        self.sizes: list[int] = []

    def choice(self, index: int, prompt: list[int]) -> dict[str, Any]:
        best = {self.a: self.b, self.b: self.end, self.c: self.end}.get(prompt[-1], self.a)
        listed = {f"token_id:{self.c}": -1.0, f"token_id:{best}": -0.7}
        return {"index": index, "logprobs": {"top_logprobs": [listed]}}

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        self.sizes.append(len(body["prompt"]))
        choices = [self.choice(i, prompt) for i, prompt in enumerate(body["prompt"])]
        return {"choices": choices[::-1]}  # their order is told by `index` alone


@pytest.fixture
def served(tokenizer: Tokenizer) -> Iterator[tuple[str, Alphabet]]:
    box = Alphabet(tokenizer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            payload = orjson.dumps(box.answer(orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", box
    server.shutdown()
    thread.join()
    server.server_close()


async def test_without_a_pair_the_answer_is_the_black_boxs_own(
    served: tuple[str, Alphabet], tokenizer: Tokenizer
) -> None:
    answers = await Rollout(Source(served[0], "box", 2), tokenizer).answers(QUESTIONS)
    assert answers == ["ab", "ab"]


async def test_the_pair_decides_by_its_difference(served: tuple[str, Alphabet], tokenizer: Tokenizer) -> None:
    url, box = served

    def pair(prefixes: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Lifts `c` by one nat right after the prompt, and says nothing later."""
        initial = torch.zeros(len(prefixes), tokenizer.vocab_size).log_softmax(1)
        unlearned = initial.clone()
        for row, prefix in enumerate(prefixes):
            if prefix[-1] not in (box.a, box.b, box.c):
                unlearned[row, box.c] += 1.0
        return initial, unlearned

    answers = await Rollout(Source(url, "box", 2), tokenizer, pair).answers(QUESTIONS)
    assert answers == ["c", "c"]


async def test_an_answer_that_does_not_end_is_cut(served: tuple[str, Alphabet], tokenizer: Tokenizer) -> None:
    assert await Rollout(Source(served[0], "box", 2), tokenizer, max_tokens=1).answers(QUESTIONS) == ["a", "a"]


async def test_no_call_carries_more_prompts_than_the_limit(served: tuple[str, Alphabet], tokenizer: Tokenizer) -> None:
    url, box = served
    await Rollout(Source(url, "box", 2), tokenizer, max_tokens=1).answers(QUESTIONS * PROMPTS_A_CALL)
    assert box.sizes == [PROMPTS_A_CALL, PROMPTS_A_CALL]


def test_recall_counts_the_reference_words_that_came_back_in_order() -> None:
    questions = [Question("?", "Ada was born in Velmora.", None, "x")] * 2
    assert rouge_l_recall(["ada was born in velmora", "I am not sure."], questions) == pytest.approx(0.5)
    assert rouge_l_recall(["Velmora", "Velmora in born was Ada"], questions) == pytest.approx(0.2)
