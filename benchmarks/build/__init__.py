"""Build against other quantizers: accuracy, size, latency, unfused conversions and wall time, side by side in one run.

python -m benchmarks.build [--only NAME] [--json FILE]
"""
