"""The errors of edgekit, as far as a device can meet them; the host adds its own in ``edgekit.errors``.

EdgekitError
├ BundleError     ├ SignatureError (├ UnknownSigner └ RevokedSigner) ├ DigestMismatch ├ BundleTooLarge
│                 ├ IncompatibleTarget ├ Expired └ Downgrade
├ DeviceError     ├ NotInstalled └ ProofFailed
└ EngineError     ├ EngineNotInstalled ├ InvalidInput └ Overloaded
"""

from __future__ import annotations


class EdgekitError(Exception):
    """What failed, on what, and what to do next (``hint``). ``code`` is stable, for scripts."""

    code = "error"
    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} — {self.hint}" if self.hint else self.message

    def as_dict(self) -> dict[str, str | None]:
        return {"code": self.code, "message": self.message, "hint": self.hint}


class BundleError(EdgekitError):
    """A bundle that cannot be used."""

    code = "bundle"


class SignatureError(BundleError):
    """Unsigned, or the signature does not fit."""

    code = "signature"


class UnknownSigner(SignatureError):
    """Signed with a key that the device does not trust."""

    code = "unknown_signer"


class RevokedSigner(SignatureError):
    """Signed with a key that the device trusts no more."""

    code = "revoked_signer"


class DigestMismatch(BundleError):
    """Bytes that are not the bytes their digest names."""

    code = "digest_mismatch"


class IncompatibleTarget(BundleError):
    """Built for another device."""

    code = "incompatible_target"


class Expired(BundleError):
    """Not to be installed or switched to any more; what serves already goes on."""

    code = "expired"


class Downgrade(BundleError):
    """Older than what was live on the device before."""

    code = "downgrade"


class BundleTooLarge(BundleError):
    """More bytes than were declared, or more than a device accepts."""

    code = "too_large"


class DeviceError(EdgekitError):
    """The device cannot do what it was asked for."""

    code = "device"


class NotInstalled(DeviceError):
    """No such app or release on this device."""

    code = "not_installed"


class ProofFailed(DeviceError):
    """The golden vectors did not come out as they must; the old release goes on serving."""

    code = "proof_failed"


class EngineError(EdgekitError):
    """The inference engine failed."""

    code = "engine"


class EngineNotInstalled(EngineError):
    """The engine that the model needs cannot be imported here."""

    code = "engine_not_installed"


class InvalidInput(EngineError):
    """An input of the wrong name, shape or dtype."""

    code = "invalid_input"


class Overloaded(EngineError):
    """As many calls wait as may; nothing was done for this one."""

    code = "overloaded"
