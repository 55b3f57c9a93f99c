"""From probes to rows: to train, to choose, to judge; as many as there is time for; with what is answered."""
