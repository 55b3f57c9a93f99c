"""A request to /v1/messages as a chat request."""

from typing import Any, Final

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.api.doors.messages.input import continues, messages_of
from deltaserve.server.api.doors.messages.schema import CountRequest, MessagesRequest
from deltaserve.server.api.requests.naming import quoted

Json = dict[str, Any]

# By which names this route's clients know the chat request's fields.
NAMES: Final = {
    "messages": "messages",
    "prompt": "messages",
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
    "response_format.json_schema": "output_config.format",
    "response_format": "output_config.format",
    "reasoning_effort": "output_config.effort",
    "chat_template_kwargs": "thinking",
}
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}
_THINKS: Final = {"enabled": True, "disabled": False, "adaptive": None}


def chat_fields(request: MessagesRequest) -> Json:
    """The fields of the chat request that asks for the same. Raises BadRequest, UnsupportedParameter."""
    user = (request.metadata or {}).get("user_id")
    fields = {
        **prompt_fields(request),
        "max_tokens": request.max_tokens,
        "stop": list(request.stop_sequences),
        "user": user if isinstance(user, str) else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def prompt_fields(request: CountRequest) -> Json:
    """Those fields that decide the prompt, with all that are passed on."""
    fields: Json = {
        **request.passed_on,
        "model": request.model,
        "messages": messages_of(request.system, request.messages),
        "continue_final_message": continues(request.messages) or None,
        **_tools(request),
        **_output(request.output_config or {}),
        **_thinking(request),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _tools(request: CountRequest) -> Json:
    tools = None if request.tools is None else [_tool(tool, f"tools[{at}]") for at, tool in enumerate(request.tools)]
    return {"tools": tools, **_choice(request.tool_choice)}


def _tool(tool: Json, path: str) -> Json:
    if tool.get("type") not in (None, "custom"):
        raise UnsupportedParameter(
            f"`{path}`: tools of the type {quoted(tool['type'])} are Anthropic's own; give a tool a name and an "
            "input_schema.",
            param="tools",
        )
    if not isinstance(tool.get("input_schema"), dict):
        raise BadRequest(f"`{path}.input_schema` must be an object.", param="tools")
    function = {name: tool[name] for name in ("name", "description", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": {**function, "parameters": tool["input_schema"]}}


def _choice(choice: Json | None) -> Json:
    if choice is None:
        return {}
    kind = choice.get("type")
    if kind == "tool":
        wanted: Any = {"type": "function", "function": {"name": choice.get("name")}}
    elif isinstance(kind, str) and kind in _CHOICES:
        wanted = _CHOICES[kind]
    else:
        raise BadRequest("`tool_choice.type` must be auto, any, tool or none.", param="tool_choice")
    return {"tool_choice": wanted, "parallel_tool_calls": False if choice.get("disable_parallel_tool_use") else None}


def _output(output: Json) -> Json:
    wanted = output.get("format")
    if wanted is None:
        return {"reasoning_effort": output.get("effort")}
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        raise BadRequest("`output_config.format` must be {type: 'json_schema', schema}.", param="output_config")
    schema = {"name": "output", "strict": True, "schema": wanted.get("schema")}
    return {
        "reasoning_effort": output.get("effort"),
        "response_format": {"type": "json_schema", "json_schema": schema},
    }


def _thinking(request: CountRequest) -> Json:
    """Whether the template lets the model think; how long it does is not bounded apart."""
    thinking = request.thinking
    if thinking is None:
        return {}
    kind = thinking.get("type")
    if not isinstance(kind, str) or kind not in _THINKS:
        raise BadRequest("`thinking.type` must be enabled, adaptive or disabled.", param="thinking")
    wanted = _THINKS[kind]
    given = request.passed_on.get("chat_template_kwargs")
    if wanted is None or not isinstance(given or {}, dict):
        return {}
    return {"chat_template_kwargs": {"enable_thinking": wanted, **(given or {})}}
