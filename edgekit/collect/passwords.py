"""Passwords: lines of Mosquitto's password file (mosquitto_passwd(1)), and the collector's own password."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from pathlib import Path

import platformdirs

from edgekit.collect import private
from edgekit.errors import ConfigError

COLLECTOR = "_collector"
"""The broker's user who collects; no device is called so."""
ROUNDS = 101
"""As mosquitto_passwd has it: these passwords are 256 bits of chance, which nobody tries out."""


def line(user: str, password: str) -> str:
    """USER:$7$ROUNDS$SALT$HASH, by PBKDF2 with SHA-512."""
    salt = os.urandom(12)
    hashed = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ROUNDS)
    return f"{user}:$7${ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(hashed).decode()}"


def file() -> Path:
    """Where the collector's password lies, for its owner alone."""
    return Path(platformdirs.user_config_dir("edgekit")) / "collector_password"


def collector() -> str:
    """The collector's password, made on first use. Raises: ConfigError when it cannot be kept or read."""
    path = private.kept(file(), lambda: secrets.token_urlsafe(32).encode())
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}", "it holds the collector's password, in one line") from error
