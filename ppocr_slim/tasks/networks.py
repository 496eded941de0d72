"""Opening networks for inference from their folders: exported bundles and checkpoints alike."""

from __future__ import annotations

from pathlib import Path

from ppocr_slim.errors import SlimError
from ppocr_slim.folders import readable_folder
from ppocr_slim.runtime.bundle import CARD as BUNDLE_CARD
from ppocr_slim.runtime.bundle import is_bundle, read_bundle
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.direction import DirectionClassifier
from ppocr_slim.runtime.network import Network
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.sessions import open_bundle_session

NETWORKS = {"det": Detector, "cls": DirectionClassifier, "rec": Recognizer}


def open_network(folder: str | Path, engine: str = "onnxruntime", precision: str = "auto") -> Network:
    """Open the network of a bundle or a checkpoint.

    Args:
        folder: folder of a bundle or a checkpoint.
        engine: runs a bundle, see `open_bundle_session`.
        precision: of a bundle, see `open_bundle_session`.

    Raises:
        SlimError: the folder is neither, or it is damaged.
    """
    place = readable_folder(Path(folder))
    if is_bundle(place):
        bundle = read_bundle(place)
        return NETWORKS[bundle.spec.task](open_bundle_session(bundle, engine, precision=precision), bundle.spec)
    # Imported here because they need Paddle, which a bundle does not.
    from ppocr_slim.tasks.checkpoint import CARD, load_model
    from ppocr_slim.tasks.table import task_for

    if not (place / CARD).is_file():
        raise SlimError(f"{folder} is neither a checkpoint (no {CARD}) nor a bundle (no {BUNDLE_CARD})")
    model, card = load_model(place)
    return NETWORKS[card.spec.task](task_for(card.spec).session(model), card.spec)


def open_recognizer(folder: str | Path, engine: str = "onnxruntime", precision: str = "auto") -> Recognizer:
    """Open the recognizer of a bundle or a checkpoint.

    Args:
        folder: folder of a bundle or a checkpoint.
        engine: runs a bundle, see `open_bundle_session`.
        precision: of a bundle, see `open_bundle_session`.

    Raises:
        SlimError: the folder is neither, it is damaged, or its network is of another task.
    """
    network = open_network(folder, engine, precision)
    if not isinstance(network, Recognizer):
        raise SlimError(
            f"{folder} holds a network of task {network.spec.task}: reading text lines needs one of task rec"
        )
    return network
