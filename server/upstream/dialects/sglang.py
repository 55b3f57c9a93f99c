"""SGLang's own `/generate`: ids in and out, lists beside the drawn token, and ids that are asked for by name.

An entry is a triple (logprob, id, text or null). Streams are cumulative unless the server was started otherwise: every
event repeats all lists so far, so that a call grows with its square. Lists are taken after the temperature, greedy
ones aside, unless the server returns the original ones. Sources: SGLang 0.5.23, `tokenizer_manager`, `sampler`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import numpy as np

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import NO_IDS, DraftParams, Floats, Ids, Proposal
from deltaserve.server.upstream.base import Capabilities, TokenizerView
from deltaserve.server.upstream.call_draft import Reader
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.dialects.forcing import plain_token
from deltaserve.server.upstream.http.transport import Transport
from deltaserve.server.upstream.topk import NOT_TOLD, TopKRules, check_drawn, checked_proposal, named_logprobs

GENERATE: Final = "/generate"
_LONGEST: Final = 128  # tokens of one call, whose cumulative lists are then some MB at k = 20
_HEAVIEST: Final = _LONGEST**2 * 20  # twice the entries of all its events; those of named ids count, too
_ID_BOUND: Final = 2**31

Triple = Sequence[Any]


class SGLang(CompletionsBox):
    """`/generate` of SGLang."""

    path: ClassVar[str] = GENERATE

    def __init__(self, transport: Transport, tokenizer: TokenizerView, capabilities: Capabilities) -> None:
        super().__init__(transport, tokenizer, capabilities)
        self._plain_token = plain_token(tokenizer)

    def request(self, token_ids: list[int], temperature: float, params: DraftParams) -> dict[str, Any]:
        names = NO_IDS if params.names is None else params.names
        tokens = min(params.max_tokens, _LONGEST, max(1, math.isqrt(_HEAVIEST // (self._rules.k + names.size))))
        sampling: dict[str, Any] = {
            "max_new_tokens": tokens,
            "temperature": temperature,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "n": 1,
            "min_new_tokens": 0,  # it would ban ends in the lists and numbers, too; our own ban is in the target
            "ignore_eos": params.ignore_eos,
            "stop": [],
            "stop_token_ids": [],
        }
        if params.seed is not None:
            sampling["sampling_seed"] = params.seed
        return {
            "input_ids": token_ids,
            "sampling_params": sampling,
            "return_logprob": True,
            "top_logprobs_num": self._rules.k,
            "logprob_start_len": -1,
            "stream": True,
            **({"token_ids_logprob": names.tolist()} if names.size else {}),
        }

    async def post(self, body: Mapping[str, Any], path: str | None = None) -> Any:
        answer = await super().post(body, path)
        return self.reader()(answer) if path is None else answer

    def reader(self) -> Reader:
        return _Events()

    def proposals(self, choice: dict[str, Any]) -> Iterator[Proposal]:
        lists = choice["logprobs"]
        named = lists["named"] or [None] * len(lists["own"])
        for own, listed, told in zip(lists["own"], lists["top"], named, strict=True):
            proposal = proposal_of(own, listed, self._rules)
            yield proposal if told is None else replace(proposal, beside=_beside(told))

    def ending(self, proposal: Proposal, choice: Mapping[str, Any]) -> Proposal:
        """It says which token ended the answer."""
        if proposal.token_id is None or choice.get("matched") != proposal.token_id:
            return proposal
        self.learn_end(proposal.token_id)
        return replace(proposal, end_id=proposal.token_id)

    def held_to_grammar(self, lark: str) -> dict[str, Any]:
        return {"sampling_params": {"ebnf": lark}}

    def held_to_schema(self, schema: Any) -> dict[str, Any]:
        return {"sampling_params": {"json_schema": json.dumps(schema)}}

    def forcing(self) -> dict[str, Any] | None:
        # A bias is in the list, too.
        return None

    def drawing(self, token_id: int) -> dict[str, Any]:
        return {"sampling_params": {"logit_bias": {str(token_id): 100.0}}}


class _Events:
    """Makes `/generate`'s events chunks in the shape of completions: each with what is new in it."""

    def __init__(self) -> None:
        self._seen = 0  # positions
        self._last: Triple = ()  # what was drawn at the last of them
        self._cumulative: bool | None = None  # None: one event does not tell

    def __call__(self, message: Any) -> Any:
        meta = message.get("meta_info") if isinstance(message, dict) else None
        if meta is None or message.get("error"):
            return message
        own, top, named = self._new(meta)
        usage = {
            "prompt_tokens": meta["prompt_tokens"],
            "completion_tokens": meta["completion_tokens"],
            "prompt_tokens_details": {"cached_tokens": meta.get("cached_tokens")},
        }
        reason = meta["finish_reason"] or {}
        if not (own or reason):
            return {"choices": [], "usage": usage}  # an earlier event told these positions already
        if reason.get("type") == "abort" and reason.get("status_code"):
            return {"error": {"message": reason.get("message"), "code": reason["status_code"]}}
        choice = {
            "index": message.get("index", 0),
            "text": "",
            "logprobs": {"own": own, "top": top, "named": named} if own else None,
            "finish_reason": reason.get("type"),
            "matched": reason.get("matched"),
        }
        return {"choices": [choice], "usage": usage}

    def _new(self, meta: Mapping[str, Any]) -> tuple[list[Triple], list[list[Triple]], list[list[Triple]]]:
        """What was drawn, is listed and was named at the positions that no earlier event had; none may be named."""
        own, top = meta["output_token_logprobs"], meta["output_top_logprobs"]
        named = meta.get("output_token_ids_logprobs") or []
        first = self._first(own, meta.get("output_token_logprobs_length", meta["completion_tokens"]))
        own, top, named = own[first:], top[first:], named[first:]
        if len(named) < len(own):  # not all of these positions have theirs yet
            named = []
        if len(own) != len(top) or len(named) > len(own):
            raise MalformedTopK("The upstream's tokens and their lists are not of one number.")
        self._seen += len(own)
        self._last = own[-1] if own else self._last
        if self._seen < meta["completion_tokens"]:
            raise MalformedTopK("The upstream drew tokens whose lists it does not show.")
        return own, top, named

    def _first(self, own: Sequence[Triple], told: int) -> int:
        """Where the new ones begin. `told`: how many there were when the event was made; they may be more by now."""
        if not self._seen:
            return 0
        if self._cumulative is None:
            self._cumulative = len(own) >= told
        if not self._cumulative:
            if self._seen + len(own) != told:
                raise MalformedTopK("The upstream's events do not add up: one is missing, or came twice.")
            return 0
        if len(own) < self._seen or list(own[self._seen - 1]) != list(self._last):
            raise MalformedTopK("The upstream changed what it had said: its lists do not go on from each other.")
        return self._seen


def _beside(entries: Sequence[Triple]) -> tuple[Ids, Floats]:
    """Ids that were named, ascending, and their log-probabilities, nats."""
    logprobs = named_logprobs([entry[0] for entry in entries])
    ids = [entry[1] for entry in entries]
    if any(type(i) is not int or not 0 <= i < _ID_BOUND for i in ids) or len(set(ids)) != len(ids):
        raise MalformedTopK(NOT_TOLD)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return np.array([ids[at] for at in order], np.int64), logprobs[order]


def proposal_of(own: Triple, entries: Sequence[Triple], rules: TopKRules) -> Proposal:
    """The k best of one position. The token there has its log-probability beside them where it is not listed."""
    ranked = sorted(((entry[0], entry[1]) for entry in entries), reverse=True)[: rules.k]
    logprob, token = own[0], own[1]
    ids, logprobs = [i for _, i in ranked], [value for value, _ in ranked]
    proposal = checked_proposal(token, ids, logprobs, rules, None if token in ids else logprob)
    check_drawn(token, ids, logprobs, logprob)
    return proposal
