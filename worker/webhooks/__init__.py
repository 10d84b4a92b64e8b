"""Webhooks by the Standard Webhooks specification: an endpoint's configuration, the signed message, its delivery."""
