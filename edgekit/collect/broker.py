"""Broker: what devices have published to an MQTT broker, brought to the store.

The broker keeps what comes while nobody collects (a session that does not end) and gives a message again until it is
acknowledged, which is done once the store has it. Who may publish as which device is the broker's business; the
collector takes the name from the topic, and only from devices that were enrolled.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgekit.collect import passwords
from edgekit.collect.bodies import TooLarge, Unreadable, unpack
from edgekit.collect.certificate import Known
from edgekit.collect.keeping import Keeper
from edgekit.collect.tokens import Tokens
from edgekit.errors import ConfigError, EdgekitError, ExtraNotInstalled
from edgekit.store import Store
from edgekit_courier import tls

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

PORT = 8883
TOPIC, CLIENT = "edgekit/v1/+/windows", "edgekit-collector"
KEEPALIVE_S, CONNECT_S = 120, 15
LEAST_S, LONGEST_S = 1.0, 60.0


@dataclass(frozen=True)
class Address:
    """Of a broker; ``user`` is who collects there."""

    host: str
    port: int
    user: str


def address(url: str) -> Address:
    """From mqtts://[user@]host[:port]. Raises: ConfigError."""
    parts = urlsplit(url)
    try:
        found = Address(parts.hostname or "", parts.port or PORT, parts.username or passwords.COLLECTOR)
    except ValueError:
        found = Address("", 0, "")
    if parts.scheme != "mqtts" or not found.host or parts.password:
        hint = f"write mqtts://broker:8883; a password belongs into {passwords.file()}"
        raise ConfigError(f"--mqtt {parts.hostname or url!r} is no broker", hint)
    return found


class Collector:
    """``tell`` hears when the broker or the store fails, and when it goes on."""

    def __init__(self, store: Store, tokens: Tokens, tell: Callable[[str], None]) -> None:
        self._keeper, self._tokens, self._tell = Keeper(store), tokens, tell
        self._refused = ""
        self._lame = self._settled = False
        self._pause_s = LEAST_S

    def run(self, broker: Address, trusted: Known) -> None:
        """Until the process is ended. Raises: EdgekitError when the broker does not let it in at the start."""
        client = self._client(broker, trusted)
        while True:
            self._refused, self._lame = "", False
            try:
                client.connect(broker.host, broker.port, KEEPALIVE_S)
                client.loop_forever()
            except OSError as error:
                self._tell(f"{broker.host}:{broker.port}: {error}")
            if self._refused and not self._settled:
                raise EdgekitError(f"{broker.host}: {self._refused}", "edgekit collect passwords --help")
            time.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 2, LONGEST_S)

    def _client(self, broker: Address, trusted: Known) -> Client:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise ExtraNotInstalled("MQTT needs paho-mqtt", "pip install 'edgekit-sdk[mqtt]'") from error
        client = Client(CallbackAPIVersion.VERSION2, CLIENT, clean_session=False, manual_ack=True)
        client.connect_timeout = CONNECT_S
        client.username_pw_set(broker.user, passwords.collector())
        client.tls_set_context(tls.context(trusted.pem, pinned=trusted.pinned))
        client.on_connect, client.on_subscribe, client.on_message = self._connected, self._subscribed, self._message
        return client

    def _connected(self, client: Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            self._leave(client, f"the broker refuses: {code}")
        else:
            client.subscribe(TOPIC, qos=1)

    def _subscribed(self, client: Client, data: Any, mid: int, codes: list[Any], properties: Any) -> None:
        if any(code.is_failure for code in codes):
            self._leave(client, f"the broker refuses to let it read {TOPIC}")
        else:
            self._settled = True
            self._tell("collecting")

    def _leave(self, client: Client, why: str) -> None:
        self._refused = why
        self._tell(why)
        client.disconnect()

    def _message(self, client: Client, data: Any, message: MQTTMessage) -> None:
        """Acknowledged when it is stored, or when it never will be; else it comes again with the next connection."""
        if self._lame:
            return
        try:
            self.take(message.topic, bytes(message.payload))
        except EdgekitError as error:
            self._lame = True
            self._tell(f"{error}")
            client.disconnect()
        else:
            self._pause_s = LEAST_S
            client.ack(message.mid, message.qos)

    def take(self, topic: str, payload: bytes) -> int:
        """How many windows of a message were new. Raises: EdgekitError when they cannot be stored."""
        device = topic.split("/")[2]
        if not self._tokens.knows(device):
            self._tell(f"{device[:80]!r} is not enrolled: what it published was dropped")
            return 0
        try:
            body = unpack(payload)
        except (TooLarge, Unreadable) as error:
            self._tell(f"{device}: what it published was dropped: {error}")
            return 0
        return self._keeper.keep(device, body, None)  # it may have lain there for long, so its clock tells nothing
