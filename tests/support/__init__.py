"""What several tests build on: clients at the sandbox, and waiting for a condition."""
