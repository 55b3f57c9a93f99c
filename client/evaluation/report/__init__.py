"""One page and one card of what was measured, for people who do not read code."""
