"""Settings of how answers are made and read: processes, recommended sampling, tool calls, reasoning."""

import os
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator

from deltaserve.errors import NotConfigured
from deltaserve.server.answers.thinking import thinking_of
from deltaserve.server.answers.tools.choosing import format_of

_MOST_FRONT_ENDS, _CORES_EACH = 4, 4  # of `workers` where the operator does not say


class Answering(BaseModel):
    """Which processes answer, and how an answer's text is read."""

    workers: Annotated[str, BeforeValidator(str), Field(pattern=r"^(auto|[0-9]{1,2})$")] = Field(
        "auto",
        description="processes that answer HTTP, beside one for the engine; 0: one process does everything; auto: 0 "
        "below 4 cores, else one for every 4 cores, at most 4",
    )

    generation_config: Literal["auto", "none"] = Field(
        "auto", description="auto: what the pair's generation_config.json recommends for requests that do not say"
    )

    tool_format: str = Field(
        "auto", description="how the model writes tool calls; auto: as its chat template shows; off: none are read"
    )
    reasoning_format: str = Field(
        "auto", description="the marks around what the model thinks; auto: as its chat template shows; off: it is text"
    )

    @field_validator("tool_format", "reasoning_format")
    @classmethod
    def _is_known(cls, name: str, info: ValidationInfo) -> str:
        look_up = format_of if info.field_name == "tool_format" else thinking_of
        try:
            look_up("", name)
        except NotConfigured as error:
            raise ValueError(error.message) from None
        return name

    @property
    def front_ends(self) -> int:
        """Processes that answer HTTP in front of an engine process; 0: one process does everything."""
        if self.workers != "auto":
            return int(self.workers)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(_MOST_FRONT_ENDS, cores // _CORES_EACH)
