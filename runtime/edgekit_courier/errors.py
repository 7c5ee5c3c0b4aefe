"""What keeps a parcel from being taken."""

from __future__ import annotations

from edgekit_runtime.errors import DeviceError


class Undelivered(DeviceError):
    """Not now: nobody is there, or nobody takes anything from us. ``after_s``: how long the other side wants peace."""

    code = "undelivered"

    def __init__(self, message: str, hint: str | None = None, *, after_s: float = 0.0) -> None:
        super().__init__(message, hint)
        self.after_s = after_s


class Unwelcome(DeviceError):
    """Not this parcel, whenever it comes."""

    code = "unwelcome"
