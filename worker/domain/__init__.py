"""Ground: words and decisions of keeping a grant alive. Standard library only, no clock, no randomness, no I/O."""
