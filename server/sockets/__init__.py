"""The sockets that the server listens on: what a connection may cost, and how several processes share them."""
