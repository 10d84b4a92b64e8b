"""Evergrant keeps OAuth 2.0 grants alive: a scheduled worker that refreshes them and stores what it gets."""
