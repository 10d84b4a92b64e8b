"""Authorization servers that others wrote, started for tests, so that Evergrant is not only proven against itself."""
