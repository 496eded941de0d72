"""The plot of a pruning sensitivity analysis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ppocr_slim.folders import replacing


def plot_sensitivity(
    path: Path,
    sizes: Mapping[str, int],
    losses: Mapping[str, Mapping[int, float]],
    removed: Mapping[str, int],
    title: str,
) -> None:
    """Draw the loss of each group over the fraction of its channels that is removed, and a dot where the plan is.

    The file is written whole or not at all.

    Args:
        path: PNG file to write.
        sizes: group's name -> number of its channels, in the order of the layers.
        losses: group's name -> number of channels removed -> loss, 0 among them; with nothing else, it is not drawn.
        removed: group's name -> number of channels that the plan removes.
        title: of the plot.

    Raises:
        SlimError: the file cannot be written.
    """
    measured = {name: losses[name] for name in sizes if len(losses[name]) > 1}
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.subplots()
    colors = colormaps["turbo"](np.linspace(0, 1, len(measured)))  # neighbouring layers get similar colours
    for (name, found), color in zip(measured.items(), colors):
        size, planned, numbers = sizes[name], removed.get(name, 0), sorted(found)
        percent = [100 * number / size for number in numbers]
        label = f"{name} ({size - planned} of {size})"
        axes.plot(percent, [found[number] for number in numbers], "-", color=color, label=label, linewidth=1.2)
        if planned:
            axes.plot(100 * planned / size, found[planned], "o", color=color, markersize=6)
    _style(axes, title)
    if measured:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, title="layer (channels left)")
    with replacing(path) as new:
        figure.savefig(new, dpi=110, format="png")


def _style(axes: Axes, title: str) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("channels of the group removed, all other groups whole [%]")
    axes.set_ylabel("loss on training samples, before fine-tuning")
    axes.set_title(title)
    axes.grid(True, which="both", alpha=0.25)
