"""What an answer may be held to, as grammars of llguidance: JSON Schema, expressions, choices, grammars, tags."""
