"""Sealing: X25519 (RFC 7748), HKDF-SHA256 (RFC 5869), ChaCha20-Poly1305 (RFC 8439) and Ed25519 (RFC 8032).

All of it is ``cryptography``'s, which is an extra of the device's wheel: curves in Python would be slow on a small
board, and leak their keys by the time that they take. Raises on import: DeviceError where it is not installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit_runtime.errors import DeviceError

try:
    from cryptography.exceptions import InvalidSignature, InvalidTag
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError as error:
    raise DeviceError(
        "secure aggregation needs 'cryptography', which is not installed here", "pip install 'edgekit-train[masks]'"
    ) from error

KEY = 32
"""Bytes of every key, secret or public."""
_ONCE = bytes(12)
"""A nonce for keys that encrypt once."""


def public(secret: bytes) -> bytes:
    """The X25519 key that belongs to 32 random bytes."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def shared(secret: bytes, other: bytes, purpose: bytes) -> bytes:
    """The key that only the two of them have, for one purpose. Raises: ValueError for a public key of low order."""
    agreed = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(other))
    return HKDF(SHA256(), KEY, None, b"edgekit masks 1 " + purpose).derive(agreed)


def seal(key: bytes, plain: bytes, about: bytes) -> bytes:
    """For a key that seals once; ``about`` is told by both and not sent."""
    return ChaCha20Poly1305(key).encrypt(_ONCE, plain, about)


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes:
    """Raises: ValueError for anything else than was sealed with this key about this."""
    try:
        return ChaCha20Poly1305(key).decrypt(_ONCE, sealed, about)
    except InvalidTag:
        raise ValueError("sealed by another key, or about something else") from None


def stream(key: bytes, size: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """What ChaCha20 makes of a key that is used for nothing else; uint32 [size], to be written to."""
    zeros = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(4 * size))
    return np.frombuffer(zeros, "<u4").astype(np.uint32)


def signer(secret: bytes) -> bytes:
    """The Ed25519 key that belongs to 32 random bytes."""
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def sign(secret: bytes, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).sign(message)


def is_signed(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
