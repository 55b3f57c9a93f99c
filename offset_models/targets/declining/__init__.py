"""How a black box says that it does not know: what forgotten questions will be answered with."""
