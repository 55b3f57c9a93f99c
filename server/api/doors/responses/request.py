"""A request to /v1/responses as a chat request."""

from typing import Any, Final

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.api.doors.responses.input import messages_of
from deltaserve.server.api.doors.responses.schema import LOGPROBS, ResponsesRequest
from deltaserve.server.api.requests.naming import quoted

Json = dict[str, Any]

# By which names this route's clients know the chat request's fields.
NAMES: Final = {
    "messages": "input",
    "prompt": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include",
}


def chat_fields(request: ResponsesRequest) -> Json:
    """The fields of the chat request that asks for the same. Raises BadRequest, UnsupportedParameter."""
    fields: Json = {
        **request.passed_on,
        "model": request.model,
        "messages": messages_of(request.input, request.instructions),
        "max_completion_tokens": request.max_output_tokens,
        "user": request.user,
        **_logprobs(request),
        **_text(request.text or {}),
        **_reasoning(request.reasoning or {}),
        **_tools(request),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _logprobs(request: ResponsesRequest) -> Json:
    """OpenAI gives them where either field asks."""
    if LOGPROBS not in request.include and request.top_logprobs is None:
        return {}
    return {"logprobs": True, "top_logprobs": request.top_logprobs or 0}


def _text(text: Json) -> Json:
    """`format` and `verbosity`; "medium" asks for nothing."""
    fields = {} if text.get("verbosity") == "medium" else {"verbosity": text.get("verbosity")}
    wanted = text.get("format")
    if wanted is None:
        return fields
    if not isinstance(wanted, dict) or not isinstance(wanted.get("type"), str):
        raise BadRequest(
            "`text.format` must be an object with a `type`: text, json_object or json_schema.", param="text"
        )
    if wanted["type"] != "json_schema":
        return {**fields, "response_format": wanted}
    schema = {name: value for name, value in wanted.items() if name != "type"}
    return {**fields, "response_format": {"type": "json_schema", "json_schema": schema}}


def _reasoning(reasoning: Json) -> Json:
    """Summaries are not made: an answer shows its reasoning as it is."""
    return {"reasoning_effort": reasoning.get("effort")}


def _tools(request: ResponsesRequest) -> Json:
    tools = None if request.tools is None else [_tool(tool, f"tools[{at}]") for at, tool in enumerate(request.tools)]
    choice = request.tool_choice
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = _names(choice.get("tools"))
        tools = [tool for tool in tools or () if tool["function"].get("name") in allowed]
        choice = choice.get("mode")
    return {"tools": tools, "tool_choice": _choice(choice), "parallel_tool_calls": request.parallel_tool_calls}


def _tool(tool: Json, path: str) -> Json:
    kind = tool.get("type")
    if kind != "function":
        raise UnsupportedParameter(
            f"`{path}`: only tools of the type function are supported; {quoted(kind)} would have to be run by this "
            "server.",
            param="tools",
        )
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def _choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "function":
        raise UnsupportedParameter(
            f"`tool_choice`: {quoted(choice.get('type'))} is not supported; auto, none, required, function and "
            "allowed_tools are.",
            param="tool_choice",
        )
    return {"type": "function", "function": {"name": choice.get("name")}}


def _names(tools: Any) -> list[Any]:
    """Of the functions that `allowed_tools` lists."""
    listed: list[Any] = tools if isinstance(tools, list) else [None]
    if not all(isinstance(tool, dict) and tool.get("type") == "function" for tool in listed):
        raise BadRequest("`tool_choice.tools` must be a list of {type: function, name}.", param="tool_choice")
    return [tool.get("name") for tool in listed]
