"""Keys and values that had other names: configs that have the old ones keep working, and are told the new ones once.

All of a config passes through here before it is checked: files, what a run saved, overrides, changes of ablations.
"""

from __future__ import annotations

from typing import Any

from ppocr_slim.errors import logger

ANY = "*"  # an index of a list
_TECHNIQUES = ("Recipe", ANY, "techniques", ANY)

RENAMED_KEYS: dict[tuple[str, ...], str] = {
    ("Recipe", ANY, "steps"): "techniques",
    (*_TECHNIQUES, "fpgm", "calibration_rows"): "calibration_samples",
    (*_TECHNIQUES, "pact", "calibration_rows"): "calibration_samples",
    (*_TECHNIQUES, "lsq", "calibration_rows"): "calibration_samples",
}
"""Path of an old key (the keys above it are new ones) -> its new name."""

RENAMED_VALUES: dict[tuple[str, ...], dict[str, str]] = {
    (*_TECHNIQUES, "distill", "losses", ANY, "name"): {
        "features": "feature_mse",
        "readings": "pseudo_labels",
        "maps": "map_distillation",
        "logits": "kl_div",
    },
}
"""Path of a key -> its old values and their new names."""

_said: set[tuple[str, str]] = set()


def with_new_names(tree: Any, origin: str, path: tuple[str, ...] = ()) -> Any:
    """Return a part of a config with the new names in the place of old ones.

    Args:
        tree: mappings, lists and values as YAML has them; nothing in it is changed.
        origin: the file or override that it comes from, for messages.
        path: where it stands in the config.
    """
    if isinstance(tree, dict):
        renamed = {}
        for key, value in tree.items():
            new = RENAMED_KEYS.get((*path, str(key)), key)
            if new != key and new not in tree:
                _say(origin, ".".join((*path, str(key))), new)
                key = new
            renamed[key] = with_new_names(value, origin, (*path, _place(key)))
        return renamed
    if isinstance(tree, list):
        return [with_new_names(item, origin, (*path, ANY)) for item in tree]
    if isinstance(tree, str) and tree in RENAMED_VALUES.get(path, {}):
        new = RENAMED_VALUES[path][tree]
        _say(origin, f"{'.'.join(path)}: {tree}", new)
        return new
    return tree


def _place(key: Any) -> str:
    return ANY if str(key).isdecimal() else str(key)  # an override counts the entries of a list


def _say(origin: str, old: str, new: str) -> None:
    if (origin, old) not in _said:
        _said.add((origin, old))
        logger.warning("%s: %s is called %s now; the old name still works", origin, old, new)
