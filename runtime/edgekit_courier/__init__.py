"""The courier: brings a device's windows to the one who collects them, where that one cannot reach in.

Over HTTPS with the standard library, or to an MQTT broker. A window counts as delivered once the other side has said
so, and is sent again until then: it has a name (session, seq), by which two of the same are one.
"""

__version__ = "0.1.0"
