"""What rounds send: bytes between host and device with and without compression, and what that costs in accuracy.

python -m benchmarks.federated.wire [--only PART]… [--json FILE]
"""
