"""Federated rounds: what aggregation costs, beside Flower's functions on the same updates, in one run.

python -m benchmarks.federated.aggregate [--updates N] [--only NAME] [--json FILE]
"""
