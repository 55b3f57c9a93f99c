"""What each client uses: requests and tokens of the last time, and choices at this moment."""

import time
from collections.abc import Callable

from deltaserve.errors import BadRequest, KeyLimited
from deltaserve.server.serving.admission.allowance import Allowance
from deltaserve.server.serving.admission.clients import Client, Standing

Clock = Callable[[], float]


class Account:
    """One client's, whose limits may change while it is used."""

    def __init__(self, client: Client, now: Clock) -> None:
        self._now = now
        self.client = client
        self._choices = 0
        self._requests = self._changed(None, client.requests_per_minute)
        self._tokens = self._changed(None, client.tokens_per_minute)

    def held_to(self, client: Client) -> "Account":
        """The same account, from now on with these limits."""
        if client != self.client:
            self.client = client
            self._requests = self._changed(self._requests, client.requests_per_minute)
            self._tokens = self._changed(self._tokens, client.tokens_per_minute)
        return self

    def request(self) -> Standing:
        """Counts a request; it says so where it is one too many."""
        return self.standing(None if self._requests is None else self._requests.take())

    def standing(self, wait_s: float | None = None) -> Standing:
        requests, tokens = (None if part is None else part.left() for part in (self._requests, self._tokens))
        return Standing(requests, tokens, wait_s)

    def enter(self, choices: int, prompt_tokens: int) -> None:
        """So many choices more, and their prompts. Raises KeyLimited; BadRequest where it can never be."""
        streams = self.client.streams
        if streams is not None and choices > streams:
            raise BadRequest(f"The request asks for {choices} choices; this API key takes {streams} at a time.")
        if streams is not None and self._choices + choices > streams:
            raise KeyLimited(f"This API key has {self._choices} answers under way, of at most {streams} at a time.")
        self._take_tokens(prompt_tokens)
        self._choices += choices

    def leave(self, choices: int) -> None:
        self._choices -= choices

    def spend(self, tokens: int) -> None:
        """So many were generated."""
        if self._tokens is not None:
            self._tokens.charge(tokens)

    def _take_tokens(self, tokens: int) -> None:
        """At least one: a key that owes tokens asks for nothing, not even with an empty prompt."""
        if self._tokens is not None and (wait_s := self._tokens.take(max(tokens, 1))) is not None:
            raise KeyLimited(
                f"This API key has used its {self._tokens.per_minute:,} tokens a minute.", retry_after_s=wait_s
            )

    def _changed(self, allowance: Allowance | None, per_minute: int | None) -> Allowance | None:
        if per_minute is None:
            return None
        if allowance is None:
            return Allowance(per_minute, self._now)
        allowance.change(per_minute)
        return allowance


class Accounts:
    """By the names of the clients: one that gets a new key or other limits keeps its account."""

    def __init__(self, now: Clock = time.monotonic) -> None:
        self._now = now
        self._by_name: dict[str, Account] = {}

    def of(self, client: Client) -> Account:
        account = self._by_name.get(client.name)
        if account is None:
            account = self._by_name[client.name] = Account(client, self._now)
        return account.held_to(client)
