"""What every route shares: the loaded model, the engine, the counters, the fault plan."""

import asyncio
import secrets
import time
import zlib
from collections.abc import Sequence as Seq
from dataclasses import replace

import numpy as np

from deltaserve.offset_models.demo.blackbox.generation.engine import GenerationEngine, Stats
from deltaserve.offset_models.demo.blackbox.generation.grammars import Grammars, Walk
from deltaserve.offset_models.demo.blackbox.generation.model import Loaded
from deltaserve.offset_models.demo.blackbox.generation.params import SamplingParams
from deltaserve.offset_models.demo.blackbox.generation.sequence import Group, Job, Sequence
from deltaserve.offset_models.demo.blackbox.generation.text import Detokenizer, TokenTexts
from deltaserve.offset_models.demo.blackbox.http.errors import ApiError, invalid
from deltaserve.offset_models.demo.blackbox.http.faults import FaultPlan
from deltaserve.offset_models.demo.blackbox.options import Options

VERSION = "0.32.0+embedded"  # the release whose dialect is spoken; "+embedded" says that this is not vLLM itself


class Service:
    """One served model."""

    def __init__(self, loaded: Loaded, options: Options, faults: FaultPlan) -> None:
        self.options = options
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.backend = loaded.backend
        self.name = loaded.name
        self.recommended = loaded.recommended
        self.stats = Stats()
        self.faults = faults
        self.texts = TokenTexts(loaded.backend, loaded.model.vocab_size)
        self.grammars = Grammars(loaded.tokenizer, loaded.model.vocab_size, loaded.model.eos_ids)
        self.engine = GenerationEngine(loaded.model, options, self.stats)
        self.created = int(time.time())
        self.fingerprint = f"vllm-{VERSION}-{zlib.crc32(repr(options).encode()):08x}"

    def check_model(self, name: str | None) -> None:
        """Raises ApiError (404) when another model is asked for; no name means the served one, as in vLLM."""
        if name and name != self.name:
            raise ApiError(f"The model `{name}` does not exist. Valid aliases: {self.name}.", status=404, param="model")

    def check_prompt(self, ids: Seq[int]) -> None:
        """Raises ApiError (400) for ids that the model cannot read or a prompt that does not fit."""
        if not ids:
            raise ApiError("The decoder prompt cannot be empty")
        if len(ids) > self.model.max_len:
            raise invalid(
                f"This model's maximum context length is {self.model.max_len} tokens. However, your request has "
                f"{len(ids)} input tokens. Please reduce the length of the input messages.",
                "input_tokens",
                len(ids),
            )
        wrong = min(ids) if min(ids) < 0 else max(ids)
        if not 0 <= wrong < self.model.vocab_size:
            raise ApiError(f"Token id {wrong} is out of vocabulary")

    def room(self, prompts: list[list[int]], params: SamplingParams) -> SamplingParams:
        """`max_tokens` cut to what fits behind the longest prompt. Raises ApiError (400) when nothing does."""
        max_tokens = min(params.max_tokens, self.model.max_len - max(map(len, prompts)))
        if max_tokens < 1:
            raise invalid(f"max_tokens must be at least 1, got {max_tokens}.", "max_tokens", max_tokens)
        if params.min_tokens > max_tokens:
            raise invalid(
                f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {params.min_tokens}.",
                "min_tokens",
            )
        return replace(params, max_tokens=max_tokens)

    def submit(self, prompts: list[list[int]], n: int, params: SamplingParams, salt: str | None) -> Job:
        """Starts `n` answers to each prompt; choice i belongs to prompt i // n. Raises ApiError (400)."""
        walk = self._walk(params.grammar)
        job = Job(params, salt, asyncio.get_running_loop())
        job.sequences = [self._sequence(job, i, prompts[i // n], i % n) for i in range(len(prompts) * n)]
        if walk is not None:
            for sequence in job.sequences:
                sequence.walk = walk.another()
        job.open = len(job.sequences)
        job.groups = scored(job, prompts, n) if params.prompt_logprobs is not None else nested(job)
        self.stats.prompts += len(prompts)
        self.stats.prompt_tokens += sum(map(len, prompts))
        self.engine.submit(job)
        return job

    def _walk(self, grammar: str | None) -> Walk | None:
        try:
            return None if grammar is None else self.grammars.begin(grammar)
        except ValueError as error:
            raise ApiError(f"Grammar error: {error}") from None

    def _sequence(self, job: Job, index: int, prompt: list[int], child: int) -> Sequence:
        params = job.params
        # As vLLM: the i-th of n answers draws with seed + i.
        rng = None if params.seed is None else np.random.default_rng((params.seed + child) % 2**64)
        detokenizer = Detokenizer(
            self.backend,
            params.stop,
            include_stop=params.include_stop_str_in_output,
            skip_special=params.skip_special_tokens,
        )
        return Sequence(job, index, prompt, rng, detokenizer)

    def cancel(self, job: Job) -> None:
        """Stops a job whose client has gone."""
        job.cancel()
        self.engine.wake()


def request_id(prefix: str, given: str | None) -> str:
    """vLLM takes the X-Request-Id header into the answer's id."""
    return f"{prefix}-{given or secrets.token_hex(8)}"


def scored(job: Job, prompts: list[list[int]], n: int) -> list[Group]:
    """One group a prompt: its own logprobs are wanted, so all of it is computed."""
    return [
        Group(job, prompt, {len(prompt): job.sequences[i * n : (i + 1) * n]}, prompt_index=i)
        for i, prompt in enumerate(prompts)
    ]


def nested(job: Job) -> list[Group]:
    """Groups of sequences whose prompts begin one another: one pass over the longest serves the whole group."""
    groups: list[Group] = []
    for sequence in sorted(job.sequences, key=lambda s: -len(s.prompt_ids)):
        length = len(sequence.prompt_ids)
        for group in groups:
            if group.prompt_ids is sequence.prompt_ids or group.prompt_ids[:length] == sequence.prompt_ids:
                group.sequences.setdefault(length, []).append(sequence)
                break
        else:
            groups.append(Group(job, sequence.prompt_ids, {length: [sequence]}))
    return groups
