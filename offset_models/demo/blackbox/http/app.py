"""The routes, as one small ASGI application: generation is written straight to the wire, the rest is JSON."""

import asyncio
import hmac
import logging
from collections.abc import Callable, MutableMapping
from typing import Any

import orjson

from deltaserve.offset_models.demo.blackbox.generation.sequence import Job
from deltaserve.offset_models.demo.blackbox.http import chat, completions
from deltaserve.offset_models.demo.blackbox.http.answering import (
    Broken,
    Message,
    Receive,
    Send,
    Shape,
    answer,
    drain,
    send_error,
    send_json,
)
from deltaserve.offset_models.demo.blackbox.http.errors import ApiError
from deltaserve.offset_models.demo.blackbox.http.faults import Fault
from deltaserve.offset_models.demo.blackbox.http.schema import DetokenizeRequest, FaultRequest, TokenizeRequest, parse
from deltaserve.offset_models.demo.blackbox.http.service import VERSION, Service

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Start = Callable[[Service, bytes, str | None], tuple[Job, Shape]]
Handler = Callable[[bytes], object]

GENERATION: dict[str, Start] = {"/v1/completions": completions.start, "/v1/chat/completions": chat.start}
MAX_BODY = 64 * 2**20  # bytes


class App:
    """ASGI application of one Service; the engine starts and stops with its lifespan."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._keys = [key.encode() for key in service.options.api_key]
        self._handlers: dict[tuple[str, str], Handler] = {
            ("GET", "/health"): self._health,
            ("GET", "/ping"): self._health,
            ("POST", "/ping"): self._health,
            ("GET", "/version"): lambda _: {"version": VERSION},
            ("GET", "/v1/models"): self._models,
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/detokenize"): self._detokenize,
            ("GET", "/tokenizer_info"): self._tokenizer_info,
            ("GET", "/stats"): self._stats,
            ("GET", "/faults"): lambda _: {"armed": service.faults.describe()},
            ("POST", "/faults"): self._arm,
            ("DELETE", "/faults"): self._disarm,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._service.engine.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._service.engine.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._route(scope, receive, sending)
        except asyncio.CancelledError:  # the process ends
            if not begun:
                await send_error(send, ApiError("The server is shutting down.", status=503))
        except ApiError as error:
            await send_error(send, error)
        except Broken:
            return  # uvicorn closes a connection whose answer was left unfinished
        except Exception:
            log.exception("a request failed")
            self._service.stats.failed_requests += 1
            await send_error(send, ApiError("Internal server error", status=500))

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        headers = dict(scope["headers"])
        if path.startswith("/v1") and not self._authorised(headers.get(b"authorization", b"")):
            # `error` is a string here, as in vLLM.
            return await send_json(send, 401, b'{"error":"Unauthorized"}')
        body = await drain(receive) if method == "POST" else b""
        if len(body) > MAX_BODY:
            raise ApiError("The request body is too large.")
        if method == "POST" and path in GENERATION:
            return await self._generate(GENERATION[path], headers, body, receive, send)
        handler = self._handlers.get((method, path))
        if handler is None:
            raise ApiError("Not Found", status=404)
        result = handler(body)
        return await send_json(send, 200, b"" if result is None else orjson.dumps(result))

    async def _generate(
        self, start: Start, headers: dict[bytes, bytes], body: bytes, receive: Receive, send: Send
    ) -> None:
        service = self._service
        service.stats.requests += 1
        header = headers.get(b"x-fault")
        fault = service.faults.next(header.decode("latin-1") if header else None)
        if fault is not None and fault.kind == "status":
            raise _as_error(fault)
        given_id = headers.get(b"x-request-id")
        job, shape = start(service, body, given_id.decode("latin-1") if given_id else None)
        await answer(service, job, shape, fault, receive, send)

    def _authorised(self, header: bytes) -> bool:
        given = header.removeprefix(b"Bearer ")
        return not self._keys or any(hmac.compare_digest(given, key) for key in self._keys)

    def _health(self, _: bytes) -> None:
        if not self._service.engine.alive:
            raise ApiError("The engine is not running.", status=503)

    def _models(self, _: bytes) -> dict[str, Any]:
        service = self._service
        card = {
            "id": service.name,
            "object": "model",
            "created": service.created,
            "owned_by": "vllm",
            "root": service.name,
            "parent": None,
            "max_model_len": service.model.max_len,
            "permission": [],
        }
        return {"object": "list", "data": [card]}

    def _tokenize(self, body: bytes) -> dict[str, Any]:
        request = parse(TokenizeRequest, body)
        self._service.check_model(request.model)
        backend = self._service.backend
        if request.messages is not None:
            ids = chat.render(self._service, request)
        elif request.prompt is not None:
            ids = backend.encode(request.prompt, add_special_tokens=request.add_special_tokens is not False).ids
        else:
            raise ApiError("prompt or messages must be given.", param="prompt")
        strings = [backend.id_to_token(i) for i in ids] if request.return_token_strs else None
        return {"count": len(ids), "max_model_len": self._service.model.max_len, "tokens": ids, "token_strs": strings}

    def _detokenize(self, body: bytes) -> dict[str, Any]:
        request = parse(DetokenizeRequest, body)
        self._service.check_model(request.model)
        if request.tokens:
            self._service.check_prompt(request.tokens)
        return {"prompt": self._service.backend.decode(request.tokens, skip_special_tokens=False)}

    def _tokenizer_info(self, _: bytes) -> dict[str, Any]:
        tokenizer = self._service.tokenizer
        special = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
        return {
            "tokenizer_class": type(tokenizer).__name__,
            "backend": "tokenizers",
            **special,
            "model_max_length": self._service.model.max_len,
            "chat_template": tokenizer.chat_template,
            "truncation_side": tokenizer.truncation_side,
            "added_tokens_decoder": {str(i): str(token) for i, token in tokenizer.added_tokens_decoder.items()},
        }

    def _stats(self, _: bytes) -> dict[str, int]:
        return {**self._service.stats.describe(), **self._service.engine.busy}

    def _arm(self, body: bytes) -> dict[str, Any]:
        request = parse(FaultRequest, body)
        self._service.faults.arm(Fault.parse(request.fault), after=request.after, times=request.times)
        return {"armed": self._service.faults.describe()}

    def _disarm(self, _: bytes) -> dict[str, Any]:
        self._service.faults.disarm()
        return {"armed": []}


def _as_error(fault: Fault) -> ApiError:
    return ApiError("The engine is not available.", status=fault.value, retry_after_s=fault.retry_after_s)
