"""Whether structured answers are valid: JSON Schema's own test suite and schemas that look like real ones."""
