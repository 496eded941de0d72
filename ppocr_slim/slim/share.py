"""Weight sharing: the weights of a layer take few values, which are fine-tuned (Han et al. 2016, arXiv:1510.00149).

The network computes in float32 as before: sharing makes its file smaller (`slim.shared_file`), not the network faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from ppocr_slim.config.schema import Share
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.layer_names import named
from ppocr_slim.models.state import model_state
from ppocr_slim.slim.shared_file import SHARED_FILE, codes_of, write_shared
from ppocr_slim.slim.technique import Context, Technique, Transform
from ppocr_slim.tasks.checkpoint import WEIGHTS, ModelCard, read_arrays

ITERATIONS = 3000  # most weights settle within half of them; one takes 0.1 ms


def kmeans(values: np.ndarray, clusters: int) -> np.ndarray:
    """Cluster numbers by k-means and return the centroids.

    Lloyd's iterations, from centroids evenly spaced between the smallest and the largest number: Han et al. found this
    better than random or quantile initialization, because it keeps the few large weights, which matter most. An empty
    cluster moves to where the error is largest.

    Args:
        values: numbers of any shape.
        clusters: how many centroids there may be.

    Returns:
        Ascending centroids, at most `clusters`, float32.
    """
    distinct = np.unique(values)
    if distinct.size <= clusters:
        return distinct.astype(np.float32)
    ordered = np.sort(values.ravel()).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centroids = np.linspace(ordered[0], ordered[-1], clusters)
    for _ in range(ITERATIONS):
        # In one dimension a cluster is what lies between two midpoints: its mean is a difference of cumulative sums.
        edges = np.concatenate([[0], np.searchsorted(ordered, _midpoints(centroids)), [ordered.size]])
        edges = _without_empty(ordered, edges)
        moved = np.diff(sums[edges]) / np.diff(edges)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids.astype(np.float32)


def _without_empty(ordered: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Drop empty clusters and halve another one for each.

    It is the one with the largest count of numbers times squared range, which is its error up to a factor. A cluster of
    equal numbers has no range, so it is never halved while there are more distinct numbers than clusters.

    Args:
        ordered: the numbers, ascending.
        edges: indexes where the clusters begin, and the end of the last.

    Returns:
        The new edges.
    """
    clusters = edges.size - 1
    edges = np.unique(edges)
    while edges.size <= clusters:
        low, high = ordered[edges[:-1]], ordered[edges[1:] - 1]
        worst = int(np.argmax(np.diff(edges) * (high - low) ** 2))
        middle = np.searchsorted(ordered, (low[worst] + high[worst]) / 2, side="right")
        edges = np.insert(edges, worst + 1, middle)
    return edges


def nearest(values: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Replace every number by the nearest of the ascending centroids; return float32 of the same shape."""
    return centroids[np.searchsorted(_midpoints(centroids), values)]


def _midpoints(centroids: np.ndarray) -> np.ndarray:
    return (centroids[1:] + centroids[:-1]) / 2


def shareable(model: nn.Layer, skip: Sequence[str] = ()) -> dict[str, paddle.Tensor]:
    """Return the trained matrices and kernels of a network by name: no biases, norms or other vectors.

    Args:
        model: the network.
        skip: patterns of layers ("backbone.stem") or single tensors ("encoder.weight_hh_l0"), see `layer_names`.

    Raises:
        SlimError: a pattern matches none of them, or all are skipped.
    """
    found = {
        name: tensor
        for name, tensor in model_state(model).items()
        if not tensor.stop_gradient and sum(side > 1 for side in tensor.shape) > 1
    }
    skipped = named(list(found), skip, "share.skip")
    kept = {name: tensor for name, tensor in found.items() if name not in skipped}
    if not kept:
        raise SlimError("share.skip leaves no layer whose weights could be shared")
    return kept


class WeightSharing(Technique):
    """Weight sharing by k-means: at most 2^bits values per tensor, and gradients that keep equal weights equal.

    The clusters follow from the weights themselves: AdamW, weight decay, clipping by norm and averaging do the same to
    two numbers that are equal and have the same gradient. So a checkpoint needs nothing besides its weights to be
    resumed, exported or pruned.
    """

    folds = True

    def __init__(self, settings: Share):
        self._settings = settings
        self._tensors: dict[str, paddle.Tensor] = {}
        # Name -> code of each weight [size], weights of each code [codes]
        self._codes: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def prepare(self, model: nn.Layer, context: Context) -> list[Transform]:
        """Replace the weights by their centroids; the structure stays, so there is no transform."""
        for tensor in shareable(model, self._settings.skip).values():
            values = tensor.numpy()
            tensor.set_value(nearest(values, kmeans(values, 2**self._settings.bits)))
        return []

    def attach(self, model: nn.Layer, context: Context) -> None:
        """Find the tensors whose weights are shared."""
        self._tensors, self._codes = shareable(model, self._settings.skip), {}

    def after_backward(self, model: nn.Layer) -> None:
        """Replace the gradients of equal weights by their mean.

        It is the projection of the gradient on the networks that share weights in this way. Han et al. take the sum:
        the same to AdamW, but clipping by norm would see larger gradients than there are.

        Raises:
            SlimError: the weights have more values than the bits allow: they were not shared.
        """
        if not self._codes:  # not before: a resumed stage loads its weights after it was attached
            self._codes = {name: self._find_codes(name, tensor.numpy()) for name, tensor in self._tensors.items()}
        for name, tensor in self._tensors.items():
            if tensor.grad is not None:
                codes, counts = self._codes[name]
                sums = np.bincount(codes, tensor.grad.numpy().ravel(), counts.size)
                tensor.grad.set_value((sums / counts).astype(np.float32)[codes].reshape(tensor.shape))

    def _find_codes(self, name: str, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, codes = codes_of(weights)
        if values.size > 2**self._settings.bits:
            raise SlimError(
                f"share: {name} has {values.size} distinct values, more than {self._settings.bits} bits allow: it was "
                "trained without weight sharing; choose a new Global.output_dir"
            )
        return codes, np.bincount(codes)

    def finish(self, best: Path, context: Context) -> None:
        """Write the best checkpoint's weights to model.shared, in the stage's folder."""
        weights = read_arrays(best / WEIGHTS)
        path = context.folder / SHARED_FILE
        size = write_shared(path, ModelCard.read(best), weights)
        plain = sum(4 * array.size for array in weights.values())
        logger.info("wrote %s: %.2f MB, %.0f%% of the float32 weights", path, size / 1e6, 100 * size / plain)
