"""Rules: what devices must not show of a release, and what is done when one does."""
