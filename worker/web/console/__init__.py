"""The operator console: one module for each page, and for what is done there."""
