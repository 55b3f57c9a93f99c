"""A small black box in three dialects for the probe: a random but fixed distribution for every prefix."""

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.replay import DONE, Reply, Request, event, json_reply
from tests.support.table_tokenizer import TableTokenizer, byte_tokenizer

SAID = 40.0  # by which what it is told to say is likelier than all else


@dataclass
class FakeUpstream:
    """Answers like vLLM, llama.cpp or a hosted API; every field is one way to be a good or a bad upstream."""

    dialect: str
    tokenizer: TableTokenizer = field(default_factory=byte_tokenizer)
    vocab_size: int = 256  # rows of the model
    max_k: int = 20
    processed: bool = False
    scale: float = 1.0  # of the listed numbers: more than log-probabilities are logits
    shift: float = 0.0
    template: tuple[int, ...] = ()  # what the server puts before every prompt
    hole: bool = False  # speculative decoding: no list after the first token
    lists: bool = True
    takes_ids: bool = True
    tokenize: bool = True
    max_prompt_k: int = 20  # of prompt_logprobs
    echoes: Callable[[int], str] | None = None  # weights of an echo's lists, by their position; None: it knows no echo
    generates: bool = False  # SGLang's own route
    obeys_grammars: bool = False  # of ids, as llama.cpp; the lists stay as they are
    names: bool = False  # vLLM's logprob_token_ids: these in the place of the best ones
    cached: int | None = None
    owner: str | None = None  # what its models page says instead of the dialect's own server
    name: str = "tiny"
    context: int = 512
    weights: str = ""  # another text makes another distribution
    jitter: float = 0.0  # nats by which a list is off, other ones at every call
    odd: Callable[[dict[str, Any]], None] | None = None  # changes the choice of a chunk
    odd_every: int = 1  # position that has an odd choice; 1: all of them
    cut_after: int | None = None  # tokens of the next long answer, whose connection then breaks
    weights_after_cut: str = ""
    says: Callable[[list[int]], int | None] | None = None  # what is far the likeliest after a prefix
    ends: frozenset[int] = frozenset()  # tokens after which its answers are over
    calls: int = 0

    def __call__(self, request: Request) -> Reply:
        pages = {"/v1/models": self._models, "/version": self._version, "/props": self._props}
        if request.path in pages:
            return pages[request.path]()
        if request.path == "/tokenize" and self.tokenize and self.dialect != "openai":
            text = request.body["content" if self.dialect == "llamacpp" else "prompt"]
            return json_reply({"tokens": self.tokenizer.encode(text)})
        if request.path == "/generate" and self.generates:
            return self._generated(request.body)
        return self._complete(request.body) if request.path == "/v1/completions" else _missing()

    def _models(self) -> Reply:
        owner = self.owner or {"vllm": "vllm", "llamacpp": "llamacpp"}.get(self.dialect, "system")
        card = {"id": self.name, "owned_by": owner, "max_model_len": self.context}
        meta = {"meta": {"n_vocab": self.vocab_size, "n_ctx": self.context}} if self.dialect == "llamacpp" else {}
        return json_reply({"data": [card | meta]})

    def _version(self) -> Reply:
        return json_reply({"version": "0.0"}) if self.dialect == "vllm" else _missing()

    def _props(self) -> Reply:
        return json_reply({"build_info": "b1"}) if self.dialect == "llamacpp" else _missing()

    def _complete(self, body: dict[str, Any]) -> Reply:
        k = self.vocab_size if body.get("logprobs") == -1 else body.get("logprobs", 1)
        if k > self.max_k:
            said = f"Requested sample logprobs of {k}, which is greater than max allowed: {self.max_k}"
            return json_reply({"error": {"message": said, "type": "BadRequestError"}}, 400)
        if body.get("prompt_logprobs", 0) > self.max_prompt_k:
            return json_reply({"error": {"message": "no prompt logprobs", "type": "BadRequestError"}}, 400)
        prompt = body["prompt"]
        prompts = prompt if isinstance(prompt, list) and isinstance(prompt[0], list | str) else [prompt]
        if not self.takes_ids and not all(isinstance(one, str) for one in prompts):
            return json_reply({"error": {"message": "prompt must be a string", "type": "invalid"}}, 400)
        ids = [self.tokenizer.encode(one) if isinstance(one, str) else list(one) for one in prompts]
        if not body.get("stream"):
            return self._whole(ids, body, k)
        return self._streamed(ids[0], body, k) if len(ids) == 1 else self._streamed_list(ids, body, k)

    def _whole(self, prompts: list[list[int]], body: dict[str, Any], k: int) -> Reply:
        choices = [
            {"index": n, "logprobs": self._echoed(ids, body, k), "finish_reason": "length"} | self._scored(ids, body)
            for n, ids in enumerate(prompts)
        ]
        usage: dict[str, Any] = {"prompt_tokens": len(prompts[0]), "completion_tokens": 1}
        if self.cached is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.cached}
        return json_reply({"choices": choices, "usage": usage})

    def _echoed(self, ids: list[int], body: dict[str, Any], k: int) -> Any:
        """The lists of the prompt, where they are asked for and known, and the one after it."""
        last = self._entry(ids, body, k, 0)[1]
        if self.echoes is None or not body.get("echo"):
            return last
        columns: dict[str, list[Any]] = {name: [None] for name in last} | {"tokens": [self._name(ids[0])]}
        for at in range(1, len(ids)):
            listed = self._listed(ids[:at], 1.0, self.echoes(at))
            best = sorted(range(self.vocab_size), key=listed.__getitem__, reverse=True)[:k]
            entry = self._shape(list(dict.fromkeys([ids[at], *best])) if self.dialect == "vllm" else best, listed)
            entry |= {"tokens": [self._name(ids[at])], "token_logprobs": [listed[ids[at]]]}
            columns = {name: [*column, *entry[name]] for name, column in columns.items()}
        return {name: [*column, *last[name]] for name, column in columns.items()}

    def _generated(self, body: dict[str, Any]) -> Reply:
        """As SGLang: triples of the prompt's positions from `logprob_start_len` on, the first of them null."""
        ids, start, k = body["input_ids"], body["logprob_start_len"], body["top_logprobs_num"]
        own: list[Any] = [[None, ids[start], None]]
        best: list[Any] = [None]
        for at in range(start + 1, len(ids)):
            listed = self._listed(ids[:at], 1.0)
            own.append([listed[ids[at]], ids[at], None])
            ranked = sorted(range(self.vocab_size), key=listed.__getitem__, reverse=True)[:k]
            best.append([[listed[i], i, None] for i in ranked])
        return json_reply({"text": "", "meta_info": {"input_token_logprobs": own, "input_top_logprobs": best}})

    def _scored(self, ids: list[int], body: dict[str, Any]) -> dict[str, Any]:
        """As vLLM: of each token of the prompt itself, then the most probable ones, raw whatever the mode."""
        if "prompt_logprobs" not in body:
            return {}
        positions: list[Any] = [None]
        for at in range(1, len(ids)):
            listed = self._listed(ids[:at], 1.0)
            ranked = sorted(range(self.vocab_size), key=listed.__getitem__, reverse=True)
            shown = dict.fromkeys([ids[at], *ranked[: body["prompt_logprobs"]]])
            positions.append({str(i): {"logprob": listed[i], "rank": ranked.index(i) + 1} for i in shown})
        return {"prompt_logprobs": positions}

    def _streamed_list(self, prompts: list[list[int]], body: dict[str, Any], k: int) -> Reply:
        """One token for each."""
        choices = [
            {"index": n, "text": "x", "logprobs": self._entry(ids, body, k, 0)[1], "finish_reason": "length"}
            for n, ids in enumerate(prompts)
        ]
        usage = {"choices": [], "usage": {"completion_tokens": len(prompts)}}
        return Reply([*(event({"choices": [choice]}) for choice in choices), event(usage), DONE])

    def best(self, ids: list[int]) -> int:
        """Its greedy choice after `ids`."""
        return self._entry(ids, {"temperature": 0}, 1, 0)[0]

    def _streamed(self, ids: list[int], body: dict[str, Any], k: int) -> Reply:
        pieces, ids = [], list(ids)
        forced = self._forced(body)
        for position in range(body["max_tokens"]):
            token, logprobs = self._entry(ids, body, k, position)
            if position < len(forced):
                token = forced[position]
                logprobs = self._drawing(logprobs, token, ids)
            choice = {"index": 0, "text": "x", "logprobs": logprobs, "finish_reason": None}
            if self.odd is not None and (position + 1) % self.odd_every == 0:
                self.odd(choice)
            pieces.append(event({"choices": [choice]}))
            ids.append(token)
            if token in self.ends:
                break
        if self.cut_after is not None and len(pieces) > self.cut_after:
            kept, self.cut_after, self.weights = self.cut_after, None, self.weights_after_cut
            return Reply(pieces[:kept], cut=True)
        finish = "stop" if ids[-1] in self.ends else "length"
        end = {"choices": [{"index": 0, "finish_reason": finish}], "usage": {"completion_tokens": len(pieces)}}
        return Reply([*pieces, event(end), DONE])

    def _forced(self, body: dict[str, Any]) -> list[int]:
        """What a grammar of ids allows."""
        return list(map(int, re.findall(r"<\[(\d+)\]>", body.get("grammar", "")))) if self.obeys_grammars else []

    def _drawing(self, logprobs: Any, token: int, ids: list[int]) -> Any:
        """llama.cpp's entry, of another token than the best one."""
        own = {"id": token, "bytes": list(self.tokenizer.token_bytes(token)), "logprob": self._listed(ids, 1.0)[token]}
        return {"content": [logprobs["content"][0] | own]}

    def _entry(self, ids: list[int], body: dict[str, Any], k: int, position: int) -> tuple[int, Any]:
        listed = self._listed(ids, body["temperature"] if self.processed and body["temperature"] else 1.0)
        best = sorted(range(self.vocab_size), key=listed.__getitem__, reverse=True)[:k]
        if not self.lists:
            return best[0], None
        if self.hole and position:
            return best[0], {"content": [{"id": best[0], "bytes": [], "logprob": 0.0, "top_logprobs": []}]}
        named = body.get("logprob_token_ids") if self.names else None
        return best[0], self._shape(list(dict.fromkeys([best[0], *named])) if named else best, listed)

    def _listed(self, ids: list[int], temperature: float, weights: str | None = None) -> list[float]:
        rng = random.Random((self.weights if weights is None else weights) + str([*self.template, *ids]))
        logits = [rng.gauss(0.0, 3.0) for _ in range(self.vocab_size)]
        if self.says is not None and (said := self.says(ids)) is not None:
            logits[said] += SAID
        self.calls += 1
        noise = random.Random(self.calls)
        logits = [logit + self.jitter * noise.uniform(-1, 1) for logit in logits]
        norm = math.log(sum(math.exp(logit / temperature) for logit in logits))
        return [self.scale * (logit / temperature - norm) + self.shift for logit in logits]

    def _shape(self, best: list[int], listed: list[float]) -> Any:
        if self.dialect == "llamacpp":
            entries = [{"id": i, "bytes": list(self.tokenizer.token_bytes(i)), "logprob": listed[i]} for i in best]
            return {"content": [entries[0] | {"top_logprobs": entries}]}
        table = {self._name(i): listed[i] for i in best}
        return {"tokens": [self._name(best[0])], "token_logprobs": [listed[best[0]]], "top_logprobs": [table]}

    def _name(self, token: int) -> str:
        return f"token_id:{token}" if self.dialect == "vllm" else _spelled(self.tokenizer.token_bytes(token))


def _spelled(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _missing() -> Reply:
    return json_reply({"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}, 404)
