"""One request: from its name to files of rows that a person can read and change, and from those to a checkpoint."""
