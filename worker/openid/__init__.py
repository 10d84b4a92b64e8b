"""Signing people in by OpenID Connect: what `[sign_in]` says, and the code flow with the provider that it names."""
