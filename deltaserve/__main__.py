"""`python -m deltaserve` is the command `deltaserve`."""

from deltaserve.client.cli import main

main()
