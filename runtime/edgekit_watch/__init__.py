"""Watch: what is seen of a device and its model beside serving: conditions, quality without labels, times.

The runtime and its server use it where it is installed, and go on without it.
"""

__version__ = "0.1.0"
