"""Certificate: the collector's own, made on first use, which devices are given at their enrolment.

They know it by itself, so no authority signs it, no name in it matters, and it never ends (RFC 5280, 4.1.2.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import platformdirs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgekit.collect import private
from edgekit.errors import ConfigError

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edgekit collect")])
FIRST, LAST = datetime(2000, 1, 1), datetime(9999, 12, 31, 23, 59, 59)
SYSTEM = "system"


@dataclass(frozen=True)
class Known:
    """What a device is to know the other side by: PEM, "" for what its system trusts. ``pinned``: by itself."""

    pem: str
    pinned: bool


def default_file() -> Path:
    """Where it lies with its key, for its owner alone."""
    return Path(platformdirs.user_config_dir("edgekit")) / "collector.pem"


def own() -> Path:
    """Our own certificate and its key, in one file, made where it is missing. Raises: ConfigError."""
    return private.kept(default_file(), make)


def make() -> bytes:
    """A new key (P-256) and its certificate, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(NAME, NAME, key.public_key(), x509.random_serial_number(), FIRST, LAST)
    signed = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + signed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def known(file: str | None) -> Known:
    """By a file with certificates, "system", or our own certificate. Raises: ConfigError.

    A file with one certificate that is no authority's is pinned.
    """
    if file == SYSTEM:
        return Known("", pinned=False)
    path = Path(file) if file else own()
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no certificate: {error}", "name a file in PEM") from error
    pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates).decode()
    return Known(pem, pinned=len(certificates) == 1 and not _authority(certificates[0]))


def _authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
