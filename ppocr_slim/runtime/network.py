"""The base of detector, direction classifier and recognizer: a session and its spec."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from ppocr_slim.errors import SlimError
from ppocr_slim.runtime.bundle import read_bundle
from ppocr_slim.runtime.sessions import Predict, open_bundle_session
from ppocr_slim.runtime.specs import Spec

SpecT = TypeVar("SpecT", bound=Spec)
NetworkT = TypeVar("NetworkT", bound="Network")


class Network(Generic[SpecT]):
    """A network with the pre- and post-processing of its task, on any session: an exported bundle's or a checkpoint's.

    Args:
        session: the network, from input to probabilities.
        spec: its inputs and outputs.

    Attributes:
        spec_type: the specs that it accepts.
        purpose: what such networks are for, as a clause for messages.
    """

    spec_type: ClassVar[type[Spec]]
    purpose: ClassVar[str]

    def __init__(self, session: Predict, spec: SpecT):
        self.session = session
        self.spec = spec

    @classmethod
    def from_bundle(
        cls: type[NetworkT],
        folder: str | Path,
        engine: str = "onnxruntime",
        threads: int | None = None,
        precision: str = "auto",
    ) -> NetworkT:
        """Open an exported bundle.

        Args:
            folder: of the bundle.
            engine, threads, precision: see `open_bundle_session`.

        Raises:
            SlimError: the bundle is damaged or of another task, or the engine cannot run it.
        """
        bundle = read_bundle(folder)
        if not isinstance(bundle.spec, cls.spec_type):
            wanted = cls.spec_type.task
            raise SlimError(f"{folder} holds a {bundle.spec.task} bundle: {cls.purpose} with a {wanted} one")
        return cls(open_bundle_session(bundle, engine, threads, precision), bundle.spec)
