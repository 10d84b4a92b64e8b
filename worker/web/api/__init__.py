"""The JSON API under /v1: grants, access tokens, clients and events, for programs that hold an API token."""
