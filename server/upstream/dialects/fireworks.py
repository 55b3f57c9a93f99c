"""Fireworks' completions: ids in, and lists whose every entry has its id.

`logprobs: true` with `top_logprobs` gives entries with `token_id`; the older number form is keyed by text. Entries also
have a `sampling_logprob`, of what was drawn from, which is not read. Filters of its own cannot be seen to be off, so
that what it draws is a guess. Sources: its client library's types; not seen live.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.call_draft import Reader
from deltaserve.server.upstream.dialects.completions import CompletionsBox, Temperatures
from deltaserve.server.upstream.topk import TopKRules, check_drawn, checked_proposal


class Fireworks(CompletionsBox):
    """`/v1/completions` of Fireworks."""

    temperatures = Temperatures(highest=2.0)
    ends_apart = True
    counts_prompt = True
    hidden_draws = "unknown"  # end tokens may be left out

    def request(self, token_ids: list[int], temperature: float, params: DraftParams) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._capabilities.model,
            "prompt": token_ids,
            "max_tokens": params.max_tokens,
            "temperature": temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "n": 1,
            "ignore_eos": params.ignore_eos,
            "stop": [],
            "logprobs": True,
            "top_logprobs": self._rules.k,
            "return_token_ids": True,
            "context_length_exceeded_behavior": "error",  # else it makes the answer shorter without a word
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if params.seed is not None:
            body["seed"] = params.seed
        if params.stream is not None:
            body["prompt_cache_key"] = params.stream  # calls with one key reach the replica that has their prefix
        return body

    def reader(self) -> Reader:
        return _without_hidden_end

    def proposals(self, choice: dict[str, Any]) -> Iterator[Proposal]:
        entries = choice["logprobs"]["content"]
        drawn = [entry["token_id"] for entry in entries]
        if choice.get("token_ids") and choice["token_ids"] != drawn:
            raise MalformedTopK("The upstream's token_ids are not the tokens that it lists.")
        for entry in entries:
            yield _proposal(entry, self._rules)


def _proposal(entry: Mapping[str, Any], rules: TopKRules) -> Proposal:
    """Neither an order nor that the drawn token is listed is promised: sorted, and checked."""
    ranked = sorted(((each["logprob"], each["token_id"]) for each in entry["top_logprobs"]), reverse=True)
    drawn, own = entry["token_id"], entry["logprob"]
    ids, logprobs = [i for _, i in ranked], [value for value, _ in ranked]
    check_drawn(drawn, ids, logprobs, own)
    if len(ids) == rules.k + 1 and ids[-1] == drawn:
        del ids[-1], logprobs[-1]
    proposal = checked_proposal(drawn, ids, logprobs, rules)
    check_drawn(drawn, ids, logprobs, own)
    return proposal


def _without_hidden_end(message: Any) -> Any:
    """A last chunk may name the id that ended the answer, with neither text nor list: usage counts it."""
    choices = message.get("choices") if isinstance(message, dict) else None
    if not choices or choices[0].get("finish_reason") != "stop" or choices[0].get("logprobs"):
        return message
    if choices[0].get("text") or len(choices[0].get("token_ids") or ()) != 1:
        return message
    return message | {"choices": [choices[0] | {"token_ids": None}, *choices[1:]]}
