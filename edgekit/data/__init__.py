"""Data: calibration and evaluation samples, streamed, and what can be wrong with them."""
