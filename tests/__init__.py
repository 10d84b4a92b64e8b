"""Evergrant's tests: each folder is one kind of proof, and this file makes what they share importable."""
