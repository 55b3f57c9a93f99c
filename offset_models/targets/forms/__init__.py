"""Forms that a subject can be asked about in: one file for each family, one table of all."""
