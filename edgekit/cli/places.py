"""Where commands keep things of a project: beside edgekit.toml."""

BUNDLES = "bundles"
"""Bundles that were built, a folder each: APP-TARGET."""
DEVICES = ".edgekit/devices"
"""Simulated devices, a folder each."""
