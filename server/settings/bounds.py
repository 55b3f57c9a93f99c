"""Settings that bound what requests may take: places, time, bytes, and what one request may ask for."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from deltaserve.server.settings.kinds import Seconds


class Bounds(BaseModel):
    """The most that clients get, together and each."""

    max_streams: Annotated[str, BeforeValidator(str), Field(pattern=r"^(auto|[1-9][0-9]{0,3})$")] = Field(
        "auto",
        description="choices generated at the same time; auto: on a CPU 16 for each core, on a GPU 256, or fewer where "
        "memory does not hold them",
    )
    max_queue: int = Field(64, ge=0, description="choices that may wait for a place")
    queue_timeout_s: Seconds = 30.0
    retry_after_s: Seconds = Field(1.0, description="Retry-After of 429 and 503 answers")
    connect_timeout_s: Seconds = 5.0
    first_token_timeout_s: Seconds = 60.0
    between_tokens_timeout_s: Seconds = 30.0
    total_timeout_s: Seconds = 600.0
    drain_timeout_s: Seconds = Field(30.0, description="how long running answers may go on after SIGTERM")
    max_body_bytes: int = Field(4_000_000, ge=1024)
    max_connections: int = Field(512, ge=1, description="open at the same time; beyond, the idlest makes room, or 503")
    header_timeout_s: Seconds = Field(10.0, description="from a connection, or a request's first byte, to its header")
    body_timeout_s: Seconds = Field(10.0, description="for a request's body; each 10 kB that came add a second")
    write_timeout_s: Seconds = Field(30.0, description="how long a client may take nothing of what waits for it")
    keep_alive_timeout_s: int = Field(5, ge=1, description="how long an idle connection stays open")
    max_body_values: int = Field(
        262_144,
        ge=1024,
        description="values in one body, token ids too; an eighth may be strings, an eighth lists",
    )
    max_n: int = Field(16, ge=1, description="largest n")
    max_prompts: int = Field(256, ge=1, description="most prompts in one completion request")
    max_logprobs: int = Field(
        20, ge=0, description="longest list of alternatives; 0: no log-probabilities at all, nor of an echoed prompt"
    )
    pace_ms: float = Field(
        0.0,
        ge=0,
        le=60_000,
        allow_inf_nan=False,
        description="tokens of an answer leave one by one, at whole multiples of so many milliseconds after the "
        "request came, so that times do not tell where the offset acts; usage then tells no calls; 0: at once",
    )
    message_special_tokens: bool = Field(
        False,
        description="special tokens written in a message (<|im_end|>) are tokens, and any role is taken; else text",
    )
    explain_candidates: int = Field(8, ge=1, le=100, description="of either side, in each row of `explain`")

    @property
    def most_streams(self) -> int | None:
        """Choices generated at the same time; None: what the device allows, which is known when the engine is there."""
        return None if self.max_streams == "auto" else int(self.max_streams)
