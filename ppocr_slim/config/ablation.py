"""Ablation files: a base config, and the variants of it that are compared."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from ppocr_slim.config.loading import load_config, load_section
from ppocr_slim.config.schema import Config, Section
from ppocr_slim.errors import SlimError

Change = tuple[str, Any]  # ("Section.key", value), as `-o` has it


class Budget(Section):
    """Length of each run's training, all stages together: in steps or in minutes, one of the two."""

    steps: int | None = Field(None, ge=1)  # of the optimizer
    minutes: float | None = Field(None, gt=0)  # of training alone, turned into steps by a short probe of the variant

    @model_validator(mode="after")
    def _one(self) -> Budget:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("a budget is exactly one of steps, minutes")
        return self

    def __str__(self) -> str:
        return f"{self.steps} steps" if self.steps else f"{self.minutes:g} minutes of training"


class Variant(Section):
    """A name, and the keys of the base config that it changes."""

    name: str = Field(min_length=1)
    changes: dict[str, Any] = Field(default_factory=dict, alias="set")  # "Section.key": its value


class Ablation(Section):
    """One ablation file, with a list of variants or a grid whose combinations they are."""

    base: Path  # relative to the file
    seeds: list[int] = Field(default_factory=lambda: [1], min_length=1)
    budget: Budget
    int8: bool = False  # also measure an INT8 file of each run, made by calibration on training samples
    cumulative: bool = False  # each variant keeps the changes of those before it
    changes: dict[str, Any] = Field(default_factory=dict, alias="set")  # of all variants
    variants: list[Variant] = Field(default_factory=list)
    grid: dict[str, list[Any]] = Field(default_factory=dict)  # "Section.key": its values

    @model_validator(mode="after")
    def _fits(self) -> Ablation:
        if bool(self.variants) == bool(self.grid):
            raise ValueError("an ablation has either variants or a grid")
        if self.grid and self.cumulative:
            raise ValueError("cumulative is for variants: the cells of a grid have no order")
        empty = next((key for key, values in self.grid.items() if not values), None)
        if empty:
            raise ValueError(f"the grid has no value for {empty}")
        listed: tuple[tuple[str, list[Any]], ...] = (
            ("seed", self.seeds),
            ("variant", [variant.name for variant in self._listed()]),
        )
        for kind, values in listed:
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ValueError(f"the {kind} {twice} stands here twice")
        fixed = {"Global.seed": "seeds", "Global.output_dir": "the runs' own folders"}
        changes = [*self.changes.items(), *(one for variant in self.variants for one in variant.changes.items())]
        changes += [(key, value) for key, values in self.grid.items() for value in values]
        for key in (key for change in changes for key in _keys(*change)):
            if key in fixed or key.endswith("max_steps"):
                instead = fixed.get(key, "its budget")
                raise ValueError(f"the key {key} cannot be set here: an ablation has {instead} for that")
        if min(self.seeds) < 0:
            raise ValueError(f"the seed {min(self.seeds)} is negative")
        return self

    def _listed(self) -> list[Variant]:
        if not self.grid:
            return self.variants
        labels = _labels(list(self.grid))
        cells = itertools.product(*self.grid.values())
        return [
            Variant(
                name=", ".join(f"{label} {_as_text(value)}" for label, value in zip(labels, cell)),
                set=dict(zip(self.grid, cell)),
            )
            for cell in cells
        ]

    def resolved(self) -> list[tuple[Variant, list[Change]]]:
        """Return the variants in order, each with all its changes to the base, in the order in which they apply."""
        found: list[tuple[Variant, list[Change]]] = []
        before = list(self.changes.items())
        for variant in self._listed():
            changes = [*before, *variant.changes.items()]
            found.append((variant, changes))
            before = changes if self.cumulative else before
        return found


def _keys(key: str, value: Any) -> Iterator[str]:
    """Yield a key that is set, and those that its value sets."""
    yield key
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield from _keys(f"{key}.{name}", part)


class Experiment(NamedTuple):
    """A variant with its whole config, in which seed and budget are yet to be set.

    Attributes:
        changes: its own ones as the file has them, "Section.key: value" each.
    """

    name: str
    changes: tuple[str, ...]
    config: Config


def load_ablation(path: Path) -> tuple[Ablation, list[Experiment]]:
    """Read an ablation file and resolve its variants.

    Returns:
        The file's content, and its variants in order.

    Raises:
        SlimError: a key is wrong, or a variant's changes make no valid config; the message names the file and either.
    """
    ablation = load_section(path, Ablation)
    base = path.parent / ablation.base
    load_config(base)  # so that an error there is not put down to a variant
    experiments = []
    for variant, changes in ablation.resolved():
        try:
            config = load_config(base, changes=changes)
            if not config.training_stages:
                raise SlimError("its Recipe has no training stage, so there is nothing to compare")
        except SlimError as error:
            raise SlimError(f"{path}: variant {variant.name!r}: {error}") from error
        own = tuple(f"{key}: {_as_text(value)}" for key, value in variant.changes.items())
        experiments.append(Experiment(variant.name, own, config))
    return ablation, experiments


def _labels(keys: list[str]) -> list[str]:
    """Return the last part of each key, and the whole key where two have the same last part."""
    last = [key.rpartition(".")[2] for key in keys]
    return [key if last.count(short) > 1 else short for key, short in zip(keys, last)]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
