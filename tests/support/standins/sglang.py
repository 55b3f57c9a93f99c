"""SGLang's `/generate`, as its source has it (0.5.23): triples, cumulative events, the temperature in the lists."""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from tests.support.replay import Reply, Request, event, json_reply
from tests.support.standins.base import Asked, Position, StandIn
from tests.support.standins.oracle import TOKENIZER, best, logprobs


@dataclass
class SGLang(StandIn):
    incremental: bool = False  # started with --incremental-streaming-output
    behind: bool = False  # its counts were taken before its lists grew on: they share memory until they are sent

    path: ClassVar[str] = "/generate"

    def page(self, request: Request) -> Reply | None:
        if request.path == "/v1/models":
            return json_reply({"data": [{"id": "tiny", "owned_by": "sglang", "max_model_len": 512, "root": "tiny"}]})
        if request.path == "/model_info":
            return json_reply({"model_path": "org/tiny", "weight_version": "default", "is_generation": True})
        if request.path == "/server_info":
            return json_reply({"version": "0.5.23"})
        if request.path == "/tokenize":
            return json_reply({"tokens": TOKENIZER.encode(request.body["prompt"]), "count": 1})
        return None

    def asked(self, body: dict[str, Any]) -> Asked | Reply:
        ids, sampling = body.get("input_ids"), body["sampling_params"]
        if not (isinstance(ids, list) and ids and all(type(i) is int for i in ids)):
            return self.error(400, "Either text, input_ids or input_embeds should be provided.")
        forced = next((int(i) for i, bias in (sampling.get("logit_bias") or {}).items() if bias >= 100), None)
        stream, named = bool(body.get("stream")), tuple(body.get("token_ids_logprob") or ())
        k, most = body["top_logprobs_num"], sampling["max_new_tokens"]
        if body["logprob_start_len"] >= 0:
            self._scored = ids[body["logprob_start_len"] :], ids[: body["logprob_start_len"]]
        else:
            self._scored = [], []
        schema = sampling.get("json_schema")
        form = self.form(None if schema is None else json.loads(schema), sampling.get("ebnf"))
        if isinstance(form, Reply):
            return form
        return Asked(ids, k, sampling["temperature"], most, stream, forced, named, form)

    _scored: tuple[list[int], list[int]] = ((), ())  # type: ignore[assignment]

    def several(self, body: dict[str, Any]) -> Reply | None:
        prompts = body.get("input_ids")
        if not prompts or not isinstance(prompts[0], list):
            return None
        asked = [self.asked(body | {"input_ids": prompt}) for prompt in prompts]
        whole = [self.whole(self.answer(one), one) for one in asked if isinstance(one, Asked)]
        return json_reply(whole)

    def events(self, answer: list[Position], asked: Asked) -> list[bytes]:
        return [event(self._message(answer, at + 1, asked)) for at in range(len(answer))]

    def whole(self, answer: list[Position], asked: Asked) -> Any:
        message = self._message(answer, len(answer), asked, first=0)
        text, before = self._scored
        own: list[Any] = [[None, text[0], None]] if text else []
        top: list[Any] = [None] if text else []
        for at in range(1, len(text)):
            prefix = [*before, *text[:at]]
            known = logprobs(prefix)
            own.append([float(known[text[at]]), text[at], None])
            top.append([[float(known[i]), i, None] for i in best(prefix, asked.k)])
        message["meta_info"] |= {"input_token_logprobs": own, "input_top_logprobs": top}
        return message

    def error_body(self, status: int, message: str) -> Any:
        if status in (401, 403):
            return {"error": "Unauthorized" if status == 401 else "Forbidden"}
        if status in (413, 502, 504):  # a proxy's
            return f"<html><body>{message}</body></html>".encode()
        if status == 400:
            return {"error": {"message": message}}
        return {"object": "error", "message": message, "type": str(status), "param": None, "code": status}

    def error_event(self) -> bytes:
        said = {"message": "Aborted", "type": "invalid_request_error", "code": 500, "retryable": False}
        return event({"error": said})

    def _message(self, answer: list[Position], upto: int, asked: Asked, first: int | None = None) -> dict[str, Any]:
        ended = upto == len(answer)
        first = first if first is not None else upto - 1 if self.incremental else 0
        ahead = 1 if self.behind and upto + 1 < len(answer) and not self.incremental else 0
        shown = answer[first : upto + ahead]
        meta = {
            "id": "x",
            "finish_reason": self._reason(answer) if ended else None,
            "prompt_tokens": len(asked.prefix),
            "completion_tokens": self.drawn(answer) if ended else upto,
            "cached_tokens": 0,
            "output_token_logprobs": [[each.own, each.drawn, None] for each in shown],
            "output_token_logprobs_length": upto,
            "output_top_logprobs": [_triples(each.ids, each.logprobs) for each in shown if each.listed],
        }
        if asked.named:
            meta["output_token_ids_logprobs"] = [[[value, i, None] for i, value in each.named] for each in shown]
        text = TOKENIZER.decode([each.drawn for each in shown if not each.is_end])
        return {"text": text, "output_ids": [each.drawn for each in shown], "meta_info": meta}

    def _reason(self, answer: list[Position]) -> dict[str, Any]:
        if self.finish(answer) == "stop":
            return {"type": "stop", "matched": answer[-1].drawn}
        return {"type": "length", "length": len(answer)}


def _triples(ids: list[int], values: list[float]) -> list[list[Any]]:
    return [[value, i, None] for i, value in zip(ids, values, strict=True)]
