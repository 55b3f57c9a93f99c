"""What a name means to a black box: of which kind its bearer is, and which other names mean it."""
