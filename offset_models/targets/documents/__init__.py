"""Documents of an erasure request: their passages, what the black box knows of them, and what it knows by heart.

Nothing of a document is written to disk here. What is asked stands in the asker's journal, which `--purge` deletes.
"""
