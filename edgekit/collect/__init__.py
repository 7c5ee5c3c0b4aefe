"""Collect: takes what devices deliver where nobody can reach in to them, over HTTPS or from an MQTT broker."""
