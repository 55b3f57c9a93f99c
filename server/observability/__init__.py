"""Where the time of a request goes, for who collects traces."""
