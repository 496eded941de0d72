"""What an ablation file may say: a base config, and the variants of it that are compared."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from ppocr_slim.config.loading import load_config, load_section
from ppocr_slim.config.schema import Config, Section, TrainStage
from ppocr_slim.errors import SlimError

Change = tuple[str, Any]  # ("Section.key", value), as `-o` has it


class Budget(Section):
    """How long each run trains, all its stages together: one of the two."""

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
    """A name and the keys that it changes, "Section.key: value"."""

    name: str = Field(min_length=1)
    changes: dict[str, Any] = Field(default_factory=dict, alias="set")


class Ablation(Section):
    """One ablation file. Either it lists variants, or a grid whose combinations they are."""

    base: Path  # relative to the file
    seeds: list[int] = Field(default_factory=lambda: [1], min_length=1)
    budget: Budget
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
        for what, values in listed:
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ValueError(f"the {what} {twice} stands here twice")
        own = {"Global.seed": "seeds", "Global.output_dir": "the runs' own folders"}
        changes = [*self.changes.items(), *(one for variant in self.variants for one in variant.changes.items())]
        changes += [(key, value) for key, values in self.grid.items() for value in values]
        for key in (key for change in changes for key in _keys(*change)):
            if key in own or key.endswith("max_steps"):
                instead = own.get(key, "its budget")
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
                name=", ".join(f"{label} {_in_words(value)}" for label, value in zip(labels, cell)),
                set=dict(zip(self.grid, cell)),
            )
            for cell in cells
        ]

    def ladder(self) -> list[tuple[Variant, list[Change]]]:
        """The variants in order, and all changes of each to the base, in the order in which they are made."""
        found: list[tuple[Variant, list[Change]]] = []
        before = list(self.changes.items())
        for variant in self._listed():
            changes = [*before, *variant.changes.items()]
            found.append((variant, changes))
            before = changes if self.cumulative else before
        return found


def _keys(key: str, value: Any) -> Iterator[str]:
    """A key that is set, and those that its value sets."""
    yield key
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield from _keys(f"{key}.{name}", part)


class Experiment(NamedTuple):
    """A variant, resolved; seeds and budget are not in its config yet.

    Attributes:
        changes: what the file says of it alone, "Section.key: value" each.
    """

    name: str
    changes: tuple[str, ...]
    config: Config


def load_ablation(path: Path) -> tuple[Ablation, list[Experiment]]:
    """Read an ablation file and resolve its variants.

    Raises SlimError naming the file and the key, or the variant that makes no config.
    """
    ablation = load_section(path, Ablation)
    base = path.parent / ablation.base
    load_config(base)  # what is wrong there is no variant's fault
    experiments = []
    for variant, changes in ablation.ladder():
        try:
            config = load_config(base, changes=changes)
            if not any(isinstance(stage, TrainStage) for stage in config.recipe):
                raise SlimError("its Recipe has no training stage, so there is nothing to compare")
        except SlimError as error:
            raise SlimError(f"{path}: variant {variant.name!r}: {error}") from error
        said = tuple(f"{key}: {_in_words(value)}" for key, value in variant.changes.items())
        experiments.append(Experiment(variant.name, said, config))
    return ablation, experiments


def _labels(keys: list[str]) -> list[str]:
    """The last part of each key, the whole of it where two would be called alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return [key if last.count(short) > 1 else short for key, short in zip(keys, last)]


def _in_words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
