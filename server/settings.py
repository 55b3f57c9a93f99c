"""Everything an operator can set, in one frozen object: command line > environment > file > defaults.

The environment is DELTASERVE_<FIELD>; the file is TOML with the same names, given by DELTASERVE_CONFIG. A secret may
lie in a file of its own, given by DELTASERVE_<FIELD>_FILE.
"""

import ipaddress
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from deltaserve.errors import NotConfigured
from deltaserve.server.answers.thinking import thinking_of
from deltaserve.server.answers.tools.choosing import format_of
from deltaserve.server.decoding.params import LEAST_TEMPERATURE
from deltaserve.server.decoding.policy import Guard, Naming, Policy
from deltaserve.server.setting_sources import (
    PREFIX,
    SettingsError,
    check_environment,
    read_file,
    read_secret_files,
    secrets_among,
    sentence,
)
from deltaserve.server.upstream.base import Dialect
from deltaserve.server.upstream_settings import (
    LIMITS,
    Addresses,
    KeyOfEach,
    NumberOfEach,
    UpstreamSettings,
    check_each,
    each_upstream,
)

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@*]+")  # extensions of browsers have schemes of their own
_STORE = re.compile(r"file|(redis|valkey)s?://[^/\s@?#]+(/\d{1,3})?")  # a password would be seen in lists of processes
_MOST_FRONT_ENDS, _CORES_EACH = 4, 4  # of `workers` where the operator does not say
_NAMED_AHEAD = 8  # tokens that come with a call of names: as long as none of them waits long for the last
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Read once at start. Build it with `load_settings`, which turns every mistake into a sentence."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    # the black box
    upstream_url: Addresses = Field(
        (),
        description="base URL of the black box, for example http://127.0.0.1:8001; several of one model with commas",
    )
    upstream_model: str | None = Field(None, description="model name to ask for; default: the only one it lists")
    upstream_key: KeyOfEach = Field(
        (), description="its API key, sent to upstream_url only; of several: one for all, or one for each"
    )
    upstream_tokenizer: Path | None = Field(
        None,
        description="folder of the black box's tokenizer, where the offset's is another one (docs/bridge.md)",
    )
    upstream_dialect: Literal["auto", Dialect] = "auto"
    upstream_provider: str | None = Field(
        None, description="who has to answer behind a router of many (OpenRouter); no other one is used"
    )
    upstream_k: int = Field(20, ge=1, description="how many alternatives to ask for at each position")
    upstream_max_context: int | None = Field(None, ge=1, description="tokens; overrides what the black box says")
    upstream_grammars: bool = Field(
        True,
        description="false: the form of a structured answer is not told to the black box, where it could keep to it",
    )
    upstream_prefix_cache: bool = Field(
        True, description="false: llama.cpp computes each prompt whole, so that no answer depends on those before"
    )
    trust_draws: bool = Field(
        True,
        description="false: what the black box draws is a guess, kept where a draw of our own is the same; exact "
        "whatever it draws from, with more calls",
    )
    named_ids: Literal["off", "auto", "always"] = Field(
        "off",
        description="ask a black box that can (vLLM, SGLang) for the numbers of ids that the pair lifts; auto: where "
        "the imputed tail may decide, or the call takes the place of another one, one call an answer and one more for "
        "every 20 tokens; always: there, and where a greedy step is not certified",
    )
    named_tail: float = Field(
        0.03, ge=0, lt=1, description="share of the corrected distribution above which the imputed tail may decide"
    )
    upstream_ping_s: Seconds = Field(10.0, description="how often an idle black box is asked whether it is there")
    upstream_calls_at_once: NumberOfEach = Field(
        (), description="most calls to an upstream at a time; one number for all, or one for each; 0: no limit"
    )
    upstream_calls_per_minute: NumberOfEach = Field((), description="the same, of calls a minute")
    upstream_tokens_per_minute: NumberOfEach = Field(
        (), description="the same, of prompt and generated tokens a minute"
    )
    upstream_patience_s: Seconds = Field(
        10.0, description="how long a call may wait for an upstream within these limits and its Retry-After"
    )

    # the offset pair
    offsets_root: Path | None = Field(None, description="folder that every offset checkpoint must lie under")
    offset: str | None = Field(None, description="checkpoint (name under offsets_root, or path) active at start")
    base: Path | None = Field(None, description="folder of the pair's shared base model")
    strength: float | None = Field(
        None, ge=0, le=10, allow_inf_nan=False, description="how much of the offset is applied; default: its own"
    )
    max_context: int | None = Field(None, ge=1, description="tokens of prompt and answer that the pair may hold")
    state_folder: Path | None = Field(
        None,
        description="where the registry's state and audit log survive a restart; default: .deltaserve in the offsets "
        "root, as soon as admin_key or watch_offsets lets offsets change",
    )
    watch_offsets: bool = Field(False, description="load (not activate) checkpoints that appear under offsets_root")
    watch_interval_s: Seconds = Field(2.0, description="how often watch_offsets looks")
    fleet_store: str | None = Field(
        None,
        description="several servers with one set of offsets: file (the state folder, which all of them share), or "
        "redis://HOST:PORT/DB; default: this server is by itself",
    )
    fleet_password: SecretStr | None = Field(None, description="of the Redis that fleet_store names")
    fleet_name: str = Field(
        "deltaserve", pattern=r"^[A-Za-z0-9._:-]{1,64}$", description="prefix of the fleet's keys in Redis"
    )
    fleet_replica: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="name of this replica; default: host name and port",
    )
    fleet_poll_s: Seconds = Field(0.5, description="how often a replica asks the store, which also tells it of changes")
    fleet_fence_s: Seconds = Field(
        10.0, description="how long a replica may answer with the old offset once it has seen that another is active"
    )
    fleet_contact_s: Seconds = Field(30.0, description="how long a replica may answer without contact with the store")
    tail: Literal["impute", "truncate"] = "impute"
    allow_blind: bool = Field(
        False,
        description="where the black box shows no list, even asked again, the pair alone decides; default: an error",
    )
    device: str = Field("auto", description="where the pair runs: cpu, cuda, or auto: the GPU where there is one")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    torch_threads: int | None = Field(None, ge=1)

    # guards: steps where the correction is large, narrower than the client asked for
    guard_kl: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="nats; the other guards act where KL(after ‖ before) is above it"
    )
    guard_min_p: float = Field(0.0, ge=0, le=1, description="least min_p of a guarded step")
    guard_temperature: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="highest temperature of a guarded step; 0 makes it greedy"
    )
    guard_unbiased: bool = Field(False, description="guarded steps heed no logit_bias and no penalties")

    # who drafts
    early_restarts: bool = Field(
        True, description="open the next call while the black box works on a token that the pair expects to be replaced"
    )
    local_drafts: bool = Field(True, description="let the pair draft where that pays")
    local_draft_block: int = Field(16, ge=1, le=64, description="longest block that the pair drafts")
    local_draft_positions_per_token: float = Field(
        4.0, gt=0, allow_inf_nan=False, description="most positions the black box is asked to score per emitted token"
    )
    local_draft_scored_prompt: int = Field(
        256, ge=0, description="longest prompt, block included, that may be scored anew to check a block; 0: never"
    )
    local_draft_concurrent_positions: int = Field(256, ge=2, description="of all blocks on their way to the black box")

    # the public side
    served_name: str | None = Field(None, description="model name that clients use; default: the black box's")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field((), description="Bearer keys, comma separated")
    keys_file: Path | None = Field(
        None, description="TOML file of named keys with limits (`deltaserve keys new`); read anew on SIGHUP"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="origins of browser applications that may call the public routes, comma separated, or *; never "
        "the admin routes",
    )
    admin_key: SecretStr | None = Field(None, description="opens the admin routes; without it they do not exist")
    admin_host: str | None = Field(None, description="address of the admin routes; default: host. Needs admin_port")
    admin_port: int | None = Field(
        None, ge=0, le=65535, description="port of their own for the admin routes, which are then nowhere else"
    )
    admin_requests_per_minute: int = Field(600, ge=1, description="to the admin routes, wrong keys counted apart")
    playground: bool = Field(True, description="serve the page at /playground")
    playground_examples: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="questions that the page offers to whoever opens it, one a line (in the file: a list)"
    )
    metrics: bool = True
    otlp_traces_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+(/\S*)?$",
        description="where traces go by OTLP over HTTP: http://collector:4318/v1/traces (needs deltaserve[otel])",
    )
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

    # bounds
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

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = True

    @field_validator("upstream_key", "api_keys", "admin_key")
    @classmethod
    def _fit_in_a_header(cls, value: Any, info: ValidationInfo) -> Any:
        for key in value if isinstance(value, tuple) else [value]:
            text = key.get_secret_value() if key is not None else ""
            if not (text.isascii() and text.isprintable() and text.strip() == text):
                raise ValueError("a key must be printable ASCII characters without spaces at its ends")
            if key is not None and not text and info.field_name != "upstream_key":
                raise ValueError("an empty key would open to everybody: leave the setting out, or give a key")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and _ORIGIN.fullmatch(origin) is None:
                raise ValueError(f"{origin} is no origin: write scheme://host[:port] without a path, or * alone")
        if "*" in origins and len(origins) > 1:
            raise ValueError("* stands for every origin: leave the others out")
        return origins

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        """A file of keys may have one on each line."""
        parts = re.split(r"[,\n]", value) if isinstance(value, str) else None
        return value if parts is None else tuple(part.strip() for part in parts if part.strip())

    @field_validator("playground_examples", mode="before")
    @classmethod
    def _split_lines(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.splitlines()))) if isinstance(value, str) else value

    @field_validator("tool_format", "reasoning_format")
    @classmethod
    def _is_known(cls, name: str, info: ValidationInfo) -> str:
        look_up = format_of if info.field_name == "tool_format" else thinking_of
        try:
            look_up("", name)
        except NotConfigured as error:
            raise ValueError(error.message) from None
        return name

    @model_validator(mode="after")
    def _one_for_each_upstream(self) -> "Settings":
        if self.upstream_url:
            check_each(self.upstream_url, {name: getattr(self, name) for name in ("upstream_key", *LIMITS)})
        return self

    @model_validator(mode="after")
    def _without_keys_only_loopback(self) -> "Settings":
        if not self.needs_key and not self.loopback:
            raise ValueError(
                "without api_keys the server listens on loopback only: set DELTASERVE_API_KEYS or "
                "DELTASERVE_KEYS_FILE, or host to 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _admin_stands_apart(self) -> "Settings":
        key = self.admin_key.get_secret_value() if self.admin_key else None
        if key is not None and key in [known.get_secret_value() for known in self.api_keys]:
            raise ValueError("admin_key must not be one of api_keys: those who may ask must not administer")
        if self.admin_port is not None and key is None:
            raise ValueError("admin_port is of no use without an admin_key")
        if self.admin_host is not None and self.admin_port is None:
            raise ValueError("admin_host needs an admin_port")
        if self.admin_port == self.port != 0 and self.admin_host in (None, self.host):
            raise ValueError("admin_port must be another port than port: each has a server of its own")
        if self.watch_offsets and self.offsets_root is None:
            raise ValueError("watch_offsets needs an offsets_root to watch")
        return self

    @field_validator("fleet_store")
    @classmethod
    def _names_a_store(cls, value: str | None) -> str | None:
        if value is not None and _STORE.fullmatch(value) is None:
            raise ValueError("it is file, or redis://HOST[:PORT][/DB] (rediss, valkey, valkeys); see fleet_password")
        return value

    @model_validator(mode="after")
    def _fleet_has_a_store(self) -> "Settings":
        if self.fleet_password is not None and self.fleet_store in (None, "file"):
            raise ValueError("fleet_password is of no use without a Redis in fleet_store")
        if self.fleet_store is not None and 3 * self.fleet_poll_s > self.fleet_contact_s:
            raise ValueError("fleet_contact_s must be at least three times fleet_poll_s: one lost answer is no fence")
        return self

    @model_validator(mode="after")
    def _guards_have_a_bound(self) -> "Settings":
        narrowing = self.guard_min_p > 0 or self.guard_temperature is not None or self.guard_unbiased
        if narrowing and self.guard_kl is None:
            raise ValueError("guard_min_p, guard_temperature and guard_unbiased need guard_kl: the steps they act on")
        if self.guard_kl is not None and not narrowing:
            raise ValueError("guard_kl does nothing alone: set guard_min_p, guard_temperature or guard_unbiased too")
        return self

    @field_validator("guard_temperature")
    @classmethod
    def _reachable(cls, value: float | None) -> float | None:
        if value and value < LEAST_TEMPERATURE:
            raise ValueError(f"it must be 0 (greedy) or at least {LEAST_TEMPERATURE:g}")
        return value

    @property
    def upstreams(self) -> list[UpstreamSettings]:
        """Each black box with what is set for it."""
        return each_upstream(self.upstream_url, self.upstream_key, *(getattr(self, name) for name in LIMITS))

    @property
    def needs_key(self) -> bool:
        """Whether those who ask need a key."""
        return bool(self.api_keys) or self.keys_file is not None

    @property
    def admin_shares_address(self) -> bool:
        """Whether the admin routes are among the public ones."""
        return self.admin_key is not None and self.admin_port is None

    @property
    def front_ends(self) -> int:
        """Processes that answer HTTP in front of an engine process; 0: one process does everything."""
        if self.workers != "auto":
            return int(self.workers)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(_MOST_FRONT_ENDS, cores // _CORES_EACH)

    @property
    def most_streams(self) -> int | None:
        """Choices generated at the same time; None: what the device allows, which is known when the engine is there."""
        return None if self.max_streams == "auto" else int(self.max_streams)

    @property
    def policy(self) -> Policy:
        """How answers are corrected, as decoding takes it."""
        return Policy(tail=self.tail, guard=self._guard(), allow_blind=self.allow_blind, naming=self._naming())

    def _naming(self) -> Naming | None:
        if self.named_ids == "off" or self.tail == "truncate":
            return None
        return Naming(tail=self.named_tail, certify=self.named_ids == "always", ahead=_NAMED_AHEAD)

    def _guard(self) -> Guard | None:
        if self.guard_kl is None:
            return None
        cap = math.inf if self.guard_temperature is None else self.guard_temperature
        return Guard(kl_nats=self.guard_kl, min_p=self.guard_min_p, temperature=cap, unbiased=self.guard_unbiased)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (pydantic passes all of them by name)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = InitSettingsSource(settings_cls, init_kwargs=read_file(cls.model_fields))
        secrets = InitSettingsSource(settings_cls, init_kwargs=read_secret_files(cls.model_fields))
        return init_settings, secrets, env_settings, file


def load_settings(**given: Any) -> Settings:
    """Settings from `given` (command line; None means not given), environment, file, defaults. Raises SettingsError."""
    check_environment(Settings.model_fields)
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("\n".join(map(sentence, error.errors(include_input=False, include_url=False)))) from None


def secret_settings() -> list[str]:
    """The fields of Settings that hold secrets: each may be given in a file."""
    return secrets_among(Settings.model_fields)
