"""Bench: how long the live release of a device takes, at first and when it is as hot as it gets."""
