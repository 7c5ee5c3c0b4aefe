"""Servers of one ONNX model side by side: requests/s, latency, CPU a request, memory and start.

python -m benchmarks.serve [--only NAME] [--seconds S] [--rounds N] [--json FILE]
"""
