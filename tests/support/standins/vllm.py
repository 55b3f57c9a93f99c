"""vLLM's `/v1/completions`: the drawn token first, k + 1 entries where it is not among the best, tokens named by id."""

from typing import Any, ClassVar

from tests.support.replay import Reply, Request, event, json_reply
from tests.support.standins.base import Asked, Position, Shown, StandIn
from tests.support.standins.oracle import SIZE, TOKENIZER

_TYPES = {
    400: "BadRequestError", 404: "NotFoundError", 422: "UnprocessableEntityError", 500: "InternalServerError",
    501: "NotImplementedError", 503: "ServiceUnavailableError",
}  # fmt: skip
MOST_NAMED = 128


class Vllm(StandIn):
    owner: ClassVar[str] = "vllm"

    def page(self, request: Request) -> Reply | None:
        if request.path == "/v1/models":
            return json_reply({"data": [{"id": "tiny", "owned_by": self.owner, "max_model_len": 512, "root": "tiny"}]})
        if request.path == "/version":
            return json_reply({"version": "0.33.0"})
        if request.path == "/tokenize":
            return json_reply({"tokens": TOKENIZER.encode(request.body["prompt"])})
        return None

    def asked(self, body: dict[str, Any]) -> Asked | Reply:
        k, prompt = body.get("logprobs"), body["prompt"]
        if not (isinstance(prompt, list) and prompt and isinstance(prompt[0], int)) or "prompt_logprobs" in body:
            return self.error(400, "This stand-in takes one prompt of token ids.")
        if k == -1 or k > self.max_k:
            return self.error(
                400, f"Requested sample logprobs of {SIZE if k == -1 else k}, which is greater than max allowed: "
                f"{self.max_k} (parameter=logprobs, value={k})",
            )  # fmt: skip
        named = tuple(body.get("logprob_token_ids") or ())
        if len(named) > MOST_NAMED:
            return self.error(400, f"logprob_token_ids takes at most {MOST_NAMED} ids")
        forced = next((int(i) for i, bias in (body.get("logit_bias") or {}).items() if bias >= 100), None)
        stream, outputs = bool(body.get("stream")), body.get("structured_outputs") or {}
        form = self.form(outputs.get("json"), outputs.get("grammar"))
        if isinstance(form, Reply):
            return form
        return Asked(prompt, k, body["temperature"], body["max_tokens"], stream, forced, named, form)

    def several(self, body: dict[str, Any]) -> Reply | None:
        """Only of calls that name ids: a list of prompts for a draft is another room's matter."""
        prompts = body["prompt"]
        if not body.get("logprob_token_ids") or not isinstance(prompts[0], list):
            return None
        choices = []
        for at, prompt in enumerate(prompts):
            asked = self.asked(body | {"prompt": prompt})
            if isinstance(asked, Reply):
                return asked
            choices += [choice | {"index": at} for choice in self.whole(self.answer(asked), asked)["choices"]]
        return json_reply({"object": "text_completion", "choices": choices[::-1]})  # in no order

    def events(self, answer: list[Position], asked: Asked) -> list[bytes]:
        shown, names, chunks = Shown(), 0, []
        for at, position in enumerate(answer):
            name = _name(position.drawn)
            choice = {
                "index": 0,
                "text": shown.text(position.drawn),
                "logprobs": self._columns([position], [names], asked) if position.listed else None,
                "finish_reason": self.finish(answer) if at + 1 == len(answer) else None,
            }
            names += len(name)
            chunks.append(event({"object": "text_completion", "choices": [choice]}))
        return [*chunks, event({"choices": [], "usage": self._usage(answer, asked)})]

    def whole(self, answer: list[Position], asked: Asked) -> Any:
        text = "".join(map(Shown().text, (position.drawn for position in answer)))
        columns = self._columns(answer, [0] * len(answer), asked)
        choice = {"index": 0, "text": text, "logprobs": columns, "finish_reason": self.finish(answer)}
        return {"object": "text_completion", "choices": [choice], "usage": self._usage(answer, asked)}

    def error_body(self, status: int, message: str) -> Any:
        if status == 401:
            return {"error": "Unauthorized"}
        if status in (413, 502, 504):  # a proxy's
            return f"<html><body>{message}</body></html>".encode()
        kind = _TYPES.get(status, "Error")
        return {"error": {"message": message, "type": kind, "param": None, "code": status}}

    def error_event(self) -> bytes:
        return event({"error": {"message": "EngineCore died.", "type": "InternalServerError", "code": 500}})

    def _usage(self, answer: list[Position], asked: Asked) -> dict[str, int]:
        return {"prompt_tokens": len(asked.prefix), "completion_tokens": self.drawn(answer)}

    def _columns(self, answer: list[Position], offsets: list[int], asked: Asked) -> dict[str, Any]:
        return {
            "tokens": [_name(position.drawn) for position in answer],
            "token_logprobs": [position.own for position in answer],
            "top_logprobs": [_table(position, bool(asked.named)) for position in answer],
            "text_offset": offsets,
        }


def _name(token_id: int) -> str:
    return f"token_id:{token_id}"


def _table(position: Position, named: bool) -> dict[str, float]:
    """The drawn token first; asked for names, it tells these instead of the best."""
    listed = position.named if named else list(zip(position.ids, position.logprobs, strict=True))
    first = [(i, value) for i, value in listed if i == position.drawn] or [(position.drawn, position.own)]
    return {_name(i): value for i, value in (*first, *listed)}
