"""The server: models over HTTP, on loopback or a Unix socket unless told otherwise.

A front of one thread holds the connections and passes bodies on; a worker process per release loads and runs it.
"""

__version__ = "0.1.0"
