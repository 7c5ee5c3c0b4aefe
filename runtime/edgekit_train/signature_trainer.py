"""Training by a TFLite model's own signatures: the gradient is part of the file, and LiteRT runs it.

Such a file is written by TensorFlow, its weights in variables. It has the signatures ``weights``: () → each weight by
its name; ``restore``: each weight by its name → anything; ``train``: ``x``, ``y`` (int32), a batch of the size that it
declares, and ``rate`` (a scalar) where it takes one → ``loss``.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Iterable, Iterator

import numpy as np

from edgekit_runtime.errors import EngineError, EngineNotInstalled, InvalidInput
from edgekit_train import settings
from edgekit_train.gathering import Gathered, gathered
from edgekit_train.trainer import finished

if TYPE_CHECKING:
    from edgekit_runtime.session import Session
    from edgekit_train.settings import Settings
    from edgekit_train.trainer import Config, Fitted, Sample
    from edgekit_train.update import Weights

    Array = np.ndarray[Any, Any]

NAMES = ("restore", "train", "weights")


@dataclass(frozen=True)
class SignatureTrainer:
    """``model``: the bytes of the file. Takes inputs of the model, float32, of ``classes`` classes.

    ``loss_before`` and ``loss_after`` are means during the first and the last epoch, as ``train`` gives no loss without
    training; of an only epoch there is no ``loss_after``.

    Memory: the interpreter's, the samples that are held, and the weights three times. Momentum, clip and the proximal
    term are what the file makes of them: here they are refused.
    """

    model: bytes
    classes: int

    def init(self, session: Session) -> Weights:
        """Those in the file. Raises: EngineError."""
        return weights_of(self.model)

    def fit(self, weights: Weights, data: Iterable[Sample], config: Config) -> Fitted:
        """Raises: InvalidInput, TrainingFailed, EngineError."""
        how, interpreter = settings_of(config), _interpreter(self.model)
        shape = tuple(interpreter.get_signature_runner("train").get_input_details()["x"]["shape"])
        rng = np.random.default_rng(how.seed)
        held = gathered(data, (int(np.prod(shape[1:])), self.classes), how.most_bytes, rng)
        with _as_engine_error():
            interpreter.get_signature_runner("restore")(**weights)
            losses = [_epoch(interpreter, held, rng, how) for _ in range(how.epochs)]
            metrics = {"loss_before": losses[0], **({"loss_after": losses[-1]} if how.epochs > 1 else {})}
            return finished(weights, _weights(interpreter), len(held.rows), metrics)


def weights_of(model: bytes) -> Weights:
    """Those that a file with training signatures has. Raises: InvalidInput for one without, EngineError."""
    return _weights(_interpreter(model))


def settings_of(config: Config) -> Settings:
    """Raises: InvalidInput for a setting that a file with training signatures does not take."""
    odd = config.keys() - {"epochs", "rate", "seed", "most_bytes"}
    if odd:
        raise InvalidInput(f"setting {min(odd)!r} is not one of a training signature", "it has what its writer gave it")
    return settings.of(config)


def _interpreter(model: bytes) -> Any:
    try:
        made = import_module("ai_edge_litert.interpreter").Interpreter(model_content=model, num_threads=1)
    except ImportError as error:
        raise EngineNotInstalled(
            f"ai-edge-litert cannot be imported ({error})", "pip install ai-edge-litert"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise EngineError(
            f"litert cannot load the training model: {_line(error)}",
            "it has to be a TFLite file with training signatures",
        ) from error
    signatures = made.get_signature_list()
    missing = set(NAMES) - signatures.keys()
    if missing:
        raise InvalidInput(f"the training model has no signature {min(missing)!r}", f"it needs {', '.join(NAMES)}")
    for what, takes, needed in _ends(signatures):
        if set(takes) != needed:
            told = ", ".join(sorted(takes)) or "nothing of it"
            raise InvalidInput(f"{what} {told}, where it must be {', '.join(sorted(needed))}")
    return made


def _ends(signatures: dict[str, dict[str, list[str]]]) -> Iterator[tuple[str, list[str], set[str]]]:
    """What the signatures take and give, told, and what they have to; more than a loss may be given."""
    train, weights = signatures["train"], set(signatures["weights"]["outputs"])
    yield "signature 'train' takes", train["inputs"], {"x", "y"} | ({"rate"} & set(train["inputs"]))
    yield "signature 'train' gives", [each for each in train["outputs"] if each == "loss"], {"loss"}
    yield "signature 'restore' takes", signatures["restore"]["inputs"], weights


def _weights(interpreter: Any) -> Weights:
    with _as_engine_error():
        found = interpreter.get_signature_runner("weights")()
    return {name: np.array(array, np.float32) for name, array in sorted(found.items())}


def _epoch(interpreter: Any, held: Gathered, rng: np.random.Generator, how: Settings) -> float:
    """The mean loss of batches of the signature's size; the last one is filled up with others."""
    run = interpreter.get_signature_runner("train")
    takes = run.get_input_details()
    size, rate = takes["x"]["shape"][0], {"rate": np.float32(how.rate)} if "rate" in takes else {}
    order = rng.permutation(len(held.rows))
    filled = np.concatenate([order, rng.integers(len(order), size=-len(order) % size)])
    losses = [
        np.mean(run(x=rows.reshape(takes["x"]["shape"]), y=labels.astype(np.int32), **rate)["loss"])
        for rows, labels in held.batches(filled, size)
    ]
    return float(np.mean(losses))


@contextlib.contextmanager
def _as_engine_error() -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise EngineError(f"the training model failed: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
