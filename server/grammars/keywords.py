"""JSON Schema's keywords: which are taken, of what form, and which are refused."""

from typing import Final

TYPES: Final = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})

# Keyword → values that ask for nothing, with which it passes.
REFUSED: Final[dict[str, tuple[object, ...]]] = {
    "not": (False,),
    "if": (),
    "then": (),
    "else": (),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "dependencies": ({},),
    "contains": (),
    "minContains": (),
    "maxContains": (),
    "uniqueItems": (False,),
    "unevaluatedItems": (True, {}),
    "unevaluatedProperties": (True, {}),
    "$dynamicRef": (),
    "$recursiveRef": (),
    "extends": (),
    "disallow": (),
    "divisibleBy": (),
    "x-guidance": (),
}

# What `$schema` may name, without its scheme and an empty fragment.
DRAFTS: Final = (
    "json-schema.org/draft/2020-12/schema",
    "json-schema.org/draft/2019-09/schema",
    "json-schema.org/draft-07/schema",
    "json-schema.org/draft-06/schema",
    "json-schema.org/draft-04/schema",
    "json-schema.org/schema",
)
