"""What federated rounds come to: accuracy by round, with liars, with devices that drop out, and with noise for privacy.

python -m benchmarks.federated.shown [--only PART]… [--html FILE] [--json FILE]
"""
