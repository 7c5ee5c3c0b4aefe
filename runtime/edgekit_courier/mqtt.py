"""MQTT 5: a parcel as a message of the device's own topic, at least once (QoS 1).

The broker says of each message what became of it: one that nobody has subscribed to, or that it does not allow, was
not delivered. (MQTT 3.1.1 cannot tell.)
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from edgekit_courier import tls
from edgekit_courier.errors import Undelivered, Unwelcome
from edgekit_runtime.errors import DeviceError

if TYPE_CHECKING:
    from types import TracebackType

    from edgekit_courier.letter import Letter
    from edgekit_courier.parcels import Parcel

TIMEOUT_S = 60.0
TOPIC = "edgekit/v1/{}/windows"
NOBODY, TOO_LARGE, BAD_FORMAT = 0x10, 0x95, 0x99
"""Reason codes of MQTT 5, table 2-6; from 0x80 on they are failures."""


class Post:
    """The way to a broker."""

    def __init__(self, letter: Letter) -> None:
        """Raises: Undelivered, DeviceError where paho-mqtt is missing."""
        mqtt = _library()
        self._letter = letter
        self._codes: dict[int, Any] = {}
        self._connected: Any = None
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.username_pw_set(letter.device, letter.secret)
        self._client.tls_set_context(tls.context(letter.certificate, pinned=letter.pinned))
        self._client.connect_timeout = TIMEOUT_S
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        try:
            self._client.connect(letter.host, letter.port)
        except OSError as error:
            raise Undelivered(f"{letter.url}: {error or type(error).__name__}") from error
        self._until(lambda: self._connected is not None)
        if self._connected.is_failure:  # type: ignore[attr-defined]  # a callback set it
            raise Undelivered(f"{letter.url}: {self._connected}", "is its password in the broker's password file?")

    def send(self, parcel: Parcel) -> None:
        """Raises: Undelivered, Unwelcome."""
        mid = self._client.publish(TOPIC.format(self._letter.device), parcel.body, qos=1).mid
        self._until(lambda: mid in self._codes)
        code = self._codes.pop(mid)
        if code.value == NOBODY:
            raise Undelivered(f"{self._letter.url}: nobody collects there yet", "start it: edgekit collect --mqtt URL")
        if code.value in (TOO_LARGE, BAD_FORMAT):
            raise Unwelcome(f"{self._letter.url}: {code}")
        if code.is_failure:
            raise Undelivered(f"{self._letter.url}: {code}")

    def _until(self, done: Any) -> None:
        until = time.monotonic() + TIMEOUT_S
        while not done():
            gone = self._client.loop(0.5)
            if not done() and (gone or time.monotonic() > until):
                raise Undelivered(f"{self._letter.url}: {'the connection ended' if gone else 'no answer'}")

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self._connected = code

    def _on_publish(self, client: Any, data: Any, mid: int, code: Any, properties: Any) -> None:
        self._codes[mid] = code

    def __enter__(self) -> Post:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()


def _library() -> Any:
    try:
        from paho.mqtt import client
    except ImportError as error:
        hint = "edgekit device setup NAME --service 'edgekit-runtime deliver' brings it"
        raise DeviceError("paho-mqtt is not installed here", hint) from error
    return client
