"""Train: what a device learns from its own data, as an update of the weights that it was sent; the data stay there.

Needs numpy and the runtime. Secure aggregation (``masks``) needs ``cryptography`` too: ``edgekit-train[masks]``.
"""

__version__ = "0.1.0"
