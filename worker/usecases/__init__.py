"""What Evergrant does: scan, drain, rotate, consent, adopt, hand out. Dependencies are arguments."""
