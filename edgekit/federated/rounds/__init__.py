"""Rounds over SSH: devices are asked, their updates checked and kept, and what comes of them is the next weights."""
