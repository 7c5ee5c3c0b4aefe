"""The errors of edgekit: one tree, each leaf with a stable ``code`` and an exit status.

The lower part of the tree (bundle, device, engine) belongs to the runtime and is re-exported here.
"""

from __future__ import annotations

from edgekit_runtime.errors import (
    BundleError,
    BundleTooLarge,
    DeviceError,
    DigestMismatch,
    Downgrade,
    EdgekitError,
    EngineError,
    EngineNotInstalled,
    Expired,
    IncompatibleTarget,
    InvalidInput,
    NotInstalled,
    Overloaded,
    ProofFailed,
    RevokedSigner,
    SignatureError,
    UnknownSigner,
)

__all__ = [
    "BrokenUpdate",
    "BudgetError",
    "BundleError",
    "BundleTooLarge",
    "CommandError",
    "ConfigError",
    "ConnectError",
    "ConversionError",
    "DataError",
    "DeviceError",
    "DigestMismatch",
    "Downgrade",
    "EdgekitError",
    "EngineError",
    "EngineNotInstalled",
    "Expired",
    "ExtraNotInstalled",
    "HookError",
    "HostKeyError",
    "IncompatibleTarget",
    "InvalidInput",
    "ModelError",
    "NotInstalled",
    "Overloaded",
    "PluginError",
    "PrivacySpent",
    "ProofFailed",
    "RevokedSigner",
    "RoundError",
    "SignatureError",
    "TransportError",
    "TransportTimeout",
    "Unhealthy",
    "UnknownSigner",
    "UnsupportedFormat",
]


class ConfigError(EdgekitError):
    """A file or option written by a person that cannot be used; names the file and the key path."""

    code = "config"
    exit_code = 2


class PluginError(EdgekitError):
    """An entry point that is unknown (the known ones are listed) or cannot be loaded."""

    code = "plugin"


class ExtraNotInstalled(EdgekitError):
    """An optional part of edgekit is needed and not installed; the hint is the command to run."""

    code = "extra_not_installed"


class DataError(EdgekitError):
    """Calibration or evaluation data that does not fit the model."""

    code = "data"


class ModelError(EdgekitError):
    """A model that cannot be read, converted or shipped."""

    code = "model"


class UnsupportedFormat(ModelError):
    """Not a model, or of a format that nothing here reads; or unsafe to read."""

    code = "unsupported_format"


class ConversionError(ModelError):
    """A pass failed, or what came out does not compute what went in."""

    code = "conversion"


class BudgetError(ModelError):
    """Worked, and the answer is no: nothing holds the budget."""

    code = "budget"
    exit_code = 3


class TransportError(EdgekitError):
    """The way to the device failed."""

    code = "transport"


class ConnectError(TransportError):
    """No connection, or nobody let us in."""

    code = "connect"


class HostKeyError(ConnectError):
    """The device's host key is unknown or has changed."""

    code = "host_key"


class TransportTimeout(TransportError):
    """The device did not answer in time."""

    code = "timeout"


class CommandError(TransportError):
    """A command on the device ended with a status other than 0."""

    code = "command"


class Unhealthy(EdgekitError):
    """A release that was pushed, and then served worse than the one before or was left by its device."""

    code = "unhealthy"


class HookError(EdgekitError):
    """An executable of the project's ``hooks`` that refused, failed, or cannot be run."""

    code = "hook"


class RoundError(EdgekitError):
    """A federated round that cannot go on: too few updates for what its strategy promises, or none that can be used."""

    code = "round"


class BrokenUpdate(RoundError):
    """An update as no device sends it that does its work: whoever it is of, it is one of those that may lie."""

    code = "broken_update"


class PrivacySpent(RoundError):
    """A round that the privacy budget does not allow."""

    code = "privacy"
    exit_code = 3
