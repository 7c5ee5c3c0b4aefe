"""The lean runtime: verifies, proves and serves models on a device.

    import edgekit_runtime

    with edgekit_runtime.load("digits") as session:
        scores = session.predict(image)["logits"]

Importing it loads the standard library only; numpy and an engine come in with the first ``load``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from edgekit_runtime.session import Session

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(app: str | os.PathLike[str], *, lazy: bool = False) -> Session:
    """A session of an installed app's current release, or of the bundle in a folder (a name with a ``/``).

    With ``lazy`` the model is loaded for the first call or ``warm_up``, which raise what that raises.
    Raises: NotInstalled, BundleError, EngineError.
    """
    from edgekit_runtime import session

    return session.load(app, lazy=lazy)
