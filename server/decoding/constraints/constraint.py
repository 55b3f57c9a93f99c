"""What an answer is held to: only tokens that a grammar allows."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Constraint:
    """q_G(i) ∝ 1[i ∈ G]·q(i), where G are the tokens that the grammar allows next."""

    grammar: str  # as llguidance serialises it: `LLMatcher.grammar_from_json_schema`, `StructTag.to_grammar`, …
    after: tuple[int, ...] = ()  # token ids; where there are any, all is allowed until the answer has had them in a row
    # A token that an answer may begin with in place of what the grammar allows; then all is allowed until `after`.
    opens: int | None = None  # None: where there is an `after`, every answer begins freely
