"""The authorization servers' side: provider schema, client authentication, token and authorization endpoints."""
