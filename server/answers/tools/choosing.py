"""Which format a model writes its calls in."""

from functools import lru_cache
from typing import Final

from deltaserve.errors import NotConfigured
from deltaserve.server.answers.tools.deepseek import DeepSeek
from deltaserve.server.answers.tools.functionary import Functionary, FunctionaryTags
from deltaserve.server.answers.tools.gemma_calls import FUNCTION_GEMMA, GEMMA_4
from deltaserve.server.answers.tools.gemma_code import GemmaCode
from deltaserve.server.answers.tools.harmony import Harmony
from deltaserve.server.answers.tools.hermes import Hermes
from deltaserve.server.answers.tools.llama_json import LlamaJson
from deltaserve.server.answers.tools.mistral import Mistral
from deltaserve.server.answers.tools.protocol import ToolFormat
from deltaserve.server.answers.tools.pythonic import Pythonic
from deltaserve.server.answers.tools.qwen3_coder import Qwen3Coder

# In this order a template is asked: marks that one family alone has come first, what only reads like calls last.
FORMATS: Final[tuple[ToolFormat, ...]] = (
    Harmony(),
    DeepSeek("deepseek_v3", fenced=True),
    DeepSeek("deepseek_v31", fenced=False),
    Mistral("mistral", named=False),
    Mistral("mistral_v11", named=True),
    FUNCTION_GEMMA,
    GEMMA_4,
    Functionary(),
    Qwen3Coder(),
    FunctionaryTags(),
    Hermes(),
    GemmaCode(),
    Pythonic(),
    LlamaJson(),
)
NAMES: Final = tuple(one.name for one in FORMATS)


@lru_cache(maxsize=64)  # of each chat request
def format_of(template: str, override: str = "auto") -> ToolFormat | None:
    """The format that the chat template shows, or the one that is named; None: none is known, or `off`.

    Raises `NotConfigured` where the name is unknown.
    """
    if override == "off":
        return None
    if override == "auto":
        return next((one for one in FORMATS if one.matches(template)), None)
    for one in FORMATS:
        if one.name == override:
            return one
    raise NotConfigured(f"tool_format must be auto, off, or one of {', '.join(NAMES)}.")
