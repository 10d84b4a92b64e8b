"""`evergrant up --demo`: a sandbox provider, some dozens of grants on short lifetimes, and owners who come back."""
