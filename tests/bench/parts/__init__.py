"""The parts of the bench; each measures one thing, and can be asked for alone with `--only`."""
