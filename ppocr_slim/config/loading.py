"""Loading of configs: a YAML file, its `_BASE_` and `-o` overrides to one checked `Config`, and back to YAML."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from ppocr_slim.config.aliases import with_new_names
from ppocr_slim.config.augmentations import expand
from ppocr_slim.config.schema import Config, Origins, Section
from ppocr_slim.errors import SlimError

# Origin of values ("configs/a.yml", "-o A.b=c", "set A.b"), and the tree of the values that it sets
Layer = tuple[str, Any]
NO_FILE = ("-o ", "set ")  # prefixes of the origins that are not files
SectionT = TypeVar("SectionT", bound=Section)


def load_config(path: str | Path, overrides: Sequence[str] = (), changes: Iterable[tuple[str, Any]] = ()) -> Config:
    """Read a config file, merge it over its `_BASE_`, apply the overrides and changes in order, and check the result.

    Mappings are merged; everything else, and a mapping of another `kind`, is replaced. Former names of keys are valid
    (`config.aliases`), and `Train.augment` may name lists of `config.augmentations`.

    Args:
        path: YAML file. Its `_BASE_` is relative to itself; all other paths in it to the current directory.
        overrides: `Section.key=value` each, the value in YAML; a number enters a list by index
            (`Train.label_files.0.ratio=2`).
        changes: the same in two parts, ("Section.key", value).

    Returns:
        The resolved config, which knows where its values come from (`locate`).

    Raises:
        SlimError: a file cannot be read, or a key or value is wrong. The message names the file or override, the path
            of the key and, for a misspelt key, the nearest right one.
    """
    layers = _read_layers(Path(path), ())
    raw: Any = {}
    for _, tree in layers:
        raw = _merge(raw, tree)
    changed = [_read_override(override) for override in overrides]
    changed += [(f"set {target}", _keys(target, f"set {target}"), value) for target, value in changes]
    for origin, keys, value in changed:
        for key in reversed(keys):
            value = {key: value}
        tree = _normalized(value, origin)
        layers.append((origin, tree))
        raw = _replace(raw, *_single_path(tree, len(keys)), origin)
    config = _checked(Config, raw, layers)
    config._origins = Origins(tuple(layers))
    return config


def load_section(path: str | Path, section: type[SectionT]) -> SectionT:
    """Return the `section` that a YAML file is, read with the checks and messages of a config, but no `_BASE_`."""
    tree = _read_tree(Path(path), "", ", ".join(field.alias or name for name, field in section.model_fields.items()))
    return _checked(section, tree, [(str(path), tree)])


def _checked(section: type[SectionT], raw: Any, layers: list[Layer]) -> SectionT:
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        raise SlimError(_explain([dict(one) for one in error.errors()], raw, layers, section)) from error


def _read_override(override: str) -> tuple[str, list[str], Any]:
    origin = f"-o {override}"
    target, equals, text = override.partition("=")
    return origin, _keys(target if equals else "", origin), _parse(text, origin)


def _keys(target: str, origin: str) -> list[str]:
    keys = target.strip().split(".")
    if not all(keys):
        value = "=value" if origin.startswith("-o ") else ""
        raise SlimError(f"{origin}: {'an override' if value else 'a change'} is written Section.key{value}")
    return keys


def locate(config: Config, path: str) -> str:
    """Return the origin of the value at a path such as "Train.augment.1.name": a file or "-o override".

    For a default it is the file that was loaded, and "the config" where the config was not loaded from a file.
    """
    location = [int(part) if part.isdecimal() else part for part in path.split(".")]
    return _setter(config._origins.layers, location)


def dump_config(config: Config, path: str | Path) -> None:
    """Write `config_text` to a file."""
    Path(path).write_text(config_text(config), encoding="utf-8")


def config_text(config: Config) -> str:
    """Return the whole resolved config, defaults included, as YAML that `load_config` reads back equal."""
    tree = config.model_dump(mode="json", by_alias=True)
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """YAML loader for which a repeated key is an error, a date is text and 7e-4 is a number."""

    # a date is text: a run may be called after one
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                problem = "a key must be a word, not a list or a mapping"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key_node.value in seen:
                problem = f"the key {key_node.value!r} stands here twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """YAML dumper that quotes the strings which `_Loader` would read as numbers."""


# PyYAML follows YAML 1.1, in which 7e-4 is a string for want of a point
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z")
for _yaml_class in (_Loader, _Dumper):
    _yaml_class.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def _parse(text: str, origin: str) -> Any:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else loader.construct_object(node, deep=True)
    except yaml.MarkedYAMLError as error:
        mark = None if origin.startswith("-o ") else error.problem_mark
        line = f":{mark.line + 1}" if mark else ""
        raise SlimError(f"{origin}{line}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:  # characters that YAML forbids; `!!int x`
        raise SlimError(f"{origin}: not valid YAML: {' '.join(str(error).split())}") from error


def _read_layers(path: Path, chain: tuple[Path, ...]) -> list[Layer]:
    """Return the file's base layers, the farthest first, then its own.

    Args:
        path: of the file.
        chain: resolved paths of the files whose `_BASE_` led here.

    Raises:
        SlimError: a file cannot be read, or its `_BASE_` is no path or leads back to a file of the chain.
    """
    if path.resolve() in chain:
        raise SlimError(f"{path}: its _BASE_ leads back to itself: take one _BASE_ of the circle out")
    tree = _read_tree(path, f", the _BASE_ of {chain[-1]}" if chain else "", "sections such as Global, Train and Eval")
    below: list[Layer] = []
    if "_BASE_" in tree:
        base = tree.pop("_BASE_")
        if not isinstance(base, str):
            raise SlimError(f"{path}: _BASE_ is {base!r}: it must be the path of one config file")
        below = _read_layers(path.parent / base, (*chain, path.resolve()))
    return [*below, (str(path), _normalized(tree, str(path)))]


def _read_tree(path: Path, led_here: str, needs: str) -> dict[str, Any]:
    """Return a file's mapping.

    Args:
        path: of the file.
        led_here: end of the message that it cannot be read: ", the _BASE_ of a.yml".
        needs: end of the message that it is empty: names of sections.

    Raises:
        SlimError: it cannot be read, or is no mapping.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SlimError(f"{path}: not UTF-8: save it as UTF-8") from error
    except OSError as error:
        raise SlimError(f"cannot read the config {path}{led_here}: {error.strerror}") from error
    tree = _parse(text, str(path))
    if tree is None:
        raise SlimError(f"{path}: the file is empty: it needs {needs}")
    if not isinstance(tree, dict):
        raise SlimError(f"{path}: a config is a mapping of sections, this is a {type(tree).__name__}")
    return tree


def _normalized(tree: dict[str, Any], origin: str) -> dict[str, Any]:
    """Return the tree that a file or override sets, with today's names, and augmentations in place of their lists'."""
    tree = with_new_names(tree, origin)
    train = tree.get("Train")
    if not isinstance(train, dict) or "augment" not in train:
        return tree
    return {**tree, "Train": {**train, "augment": expand(train["augment"], origin)}}


def _single_path(tree: Any, length: int) -> tuple[list[str], int, Any]:
    """Return the path through a tree that has one key a level, from depth 0, and the value at its end."""
    keys = []
    for _ in range(length):
        ((key, tree),) = tree.items()
        keys.append(key)
    return keys, 0, tree


def _merge(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    if above.get("kind", below.get("kind")) != below.get("kind"):
        return above  # the arguments of another kind mean nothing to it
    return {**below, **{key: _merge(below.get(key), value) for key, value in above.items()}}


def _replace(tree: Any, keys: Sequence[str], depth: int, value: Any, origin: str) -> Any:
    """Return `tree` with `value` at `keys[depth:]`; `tree` itself is not changed.

    Raises:
        SlimError: a list has no such index, or the keys lead into a plain value.
    """
    if depth == len(keys):
        return value
    key = keys[depth]
    if isinstance(tree, list):
        if not re.fullmatch("[0-9]+", key) or int(key) >= len(tree):
            here = f"{'.'.join(keys[:depth])} is a list of {len(tree)}, counted from 0"
            raise SlimError(f"{origin}: {here}: it has no entry {key!r}")
        index = int(key)
        return [*tree[:index], _replace(tree[index], keys, depth + 1, value, origin), *tree[index + 1 :]]
    if not isinstance(tree, dict):
        raise SlimError(f"{origin}: {'.'.join(keys[:depth])} is {tree!r}, which has no keys such as {key!r}")
    return {**tree, key: _replace(tree.get(key, {}), keys, depth + 1, value, origin)}


def _explain(errors: list[dict[str, Any]], raw: Any, layers: list[Layer], root: type[Section]) -> str:
    """Return the most telling error as one sentence: a misspelt key comes before the key that it leaves missing."""
    error = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    location, value = _locate(error, raw)
    path = ".".join(str(part) for part in location) or "the config"
    culprit = location
    if error["type"] == "missing":  # nobody set it: look for who set the list entry that lacks it
        culprit = location[: max((at + 1 for at, part in enumerate(location) if isinstance(part, int)), default=0)]
    where = _setter(layers, culprit)
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key {path}: {_advice(str(location[-1]), _known_keys(error['loc'], root))}"
    if error["type"] == "union_tag_not_found":
        path += "." + error["ctx"]["discriminator"].strip("'")
    if error["type"] in ("missing", "union_tag_not_found"):
        return f"{where}: {path} is missing: set it there or with -o"
    if error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return f"{where}: {path} is {value!r}: it must be a section with keys"
    # a value that may be of several types has an error for each
    here = [one["msg"].removeprefix("Value error, ") for one in errors if _locate(one, raw)[0] == location]
    return f"{where}: {path} is {value!r}: {', or '.join(text[0].lower() + text[1:] for text in here)}"


def _locate(error: dict[str, Any], raw: Any) -> tuple[tuple[str | int, ...], Any]:
    """Return the location of an error in `raw`, and the value there. Pydantic's location also names tags of unions."""
    location: list[str | int] = []
    node = raw
    for depth, part in enumerate(error["loc"]):
        is_missing_key = error["type"] == "missing" and depth == len(error["loc"]) - 1
        if (isinstance(node, dict) and part in node) or (isinstance(node, list) and isinstance(part, int)):
            node = node[part]
        elif not is_missing_key:
            continue
        location.append(part)
    return tuple(location), node


def _setter(layers: Sequence[Layer], location: Sequence[str | int]) -> str:
    """Return the last layer that sets the value at a location; where none does, the file that was loaded."""
    files = [name for name, _ in layers if not name.startswith(NO_FILE)]
    loaded = files[-1] if files else "the config"
    return next((name for name, tree in reversed(layers) if location and _sets(tree, location)), loaded)


def _sets(tree: Any, location: Sequence[str | int]) -> bool:
    """Return whether a layer sets the value at a location, itself or by setting a list or section around it."""
    for part in location:
        if isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            tree = tree[part]
        elif isinstance(tree, dict):
            keys = {str(key): key for key in tree}  # an override's layer has list indices as text
            if str(part) not in keys:
                return False
            tree = tree[keys[str(part)]]
    return True


def _known_keys(location: Sequence[str | int], root: type[Section]) -> list[str]:
    """Return the keys that the schema of `root` has beside the last part of a Pydantic location."""
    sections: list[type[Section]] = [root]
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        inside = [
            section
            for parent in sections
            for name, field in parent.model_fields.items()
            if part == (field.alias or name)
            for section in _sections_in(field.annotation)
        ]
        tagged = [
            section
            for section in sections
            if any(part in get_args(field.annotation) for field in section.model_fields.values())
        ]
        sections = inside or tagged
    return [field.alias or name for section in sections for name, field in section.model_fields.items()]


def _sections_in(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections_in(argument)]


def _advice(key: str, known: Sequence[str]) -> str:
    by_lower_case = {name.lower(): name for name in known}
    near = difflib.get_close_matches(key.lower(), by_lower_case, n=1)
    return f"did you mean {by_lower_case[near[0]]}?" if near else f"the keys here are {', '.join(known)}"
