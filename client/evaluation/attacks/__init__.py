"""Ways to get a forgotten answer out of a server, each a small function in a table."""
