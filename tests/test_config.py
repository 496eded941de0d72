"""Config files, what they are based on, overrides, and the messages when one is wrong."""

from __future__ import annotations

import argparse
import importlib
import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from ppocr_slim.cli import train
from ppocr_slim.config import aliases
from ppocr_slim.config.ablation import load_ablation
from ppocr_slim.config.aliases import KEYS, VALUES, with_former_names, with_new_names
from ppocr_slim.config.augmentations import AUGMENTATIONS
from ppocr_slim.config.loading import dump_config, load_config, locate
from ppocr_slim.config.schema import Config, ExportStage, TrainStage
from ppocr_slim.data.augment import check_names
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.folders import PRETRAINED

FOLDER = Path(__file__).resolve().parents[1] / "configs"
CONFIGS = sorted(path for path in FOLDER.rglob("*.yml") if path.parent.name != "ablation")  # those: test_ablation

BASE = """
Global: {output_dir: output/base}
Architecture: {name: crnn_mv3_slim, args: {height: 40, dropout: 1e-1}}
Optimizer: {lr: 7e-4, warmup_steps: 5}
Train:
  label_files:
    - {path: a.txt}
    - {path: b.txt, ratio: 0.5}
Eval: {label_files: [{path: v.txt}]}
Recipe:
  - {stage: train, epochs: 2}
  - {stage: export}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yml"
    path.write_text(BASE, encoding="utf-8")
    return path


def child_of(base: Path, text: str) -> Path:
    path = base.parent / "child.yml"
    path.write_text("_BASE_: base.yml\n" + text, encoding="utf-8")
    return path


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(SlimError) as caught:
        load_config(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configs_that_ship_load_and_come_back_equal(path: Path, tmp_path: Path):
    """Otherwise the first command of the README fails, or a saved run cannot be repeated."""
    config = load_config(path)
    dump_config(config, tmp_path / "saved.yml")
    assert load_config(tmp_path / "saved.yml") == config


def test_there_are_configs_to_test():
    """Otherwise the test above would pass over an empty list."""
    assert len(CONFIGS) >= 3


def test_exponents_are_numbers(base: Path):
    """PyYAML reads 7e-4 as text: a learning rate would be refused, or a model's argument silently be a word."""
    config = load_config(base, ["Optimizer.weight_decay=1e-3", "Architecture.args.scale=5E-1"])
    assert config.optimizer.lr == 7e-4
    assert config.optimizer.weight_decay == 1e-3
    assert config.architecture.args == {"height": 40, "dropout": 0.1, "scale": 0.5}


def test_what_looks_like_a_number_comes_back_as_the_text_it_was(base: Path, tmp_path: Path):
    """A saved config that reads back differently repeats another experiment than the one that was run."""
    config = load_config(
        base, ["Architecture.args.a='7e-4'", "Architecture.args.b=1e-5", "Global.output_dir=2026-01-02"]
    )
    dump_config(config, tmp_path / "saved.yml")
    assert load_config(tmp_path / "saved.yml") == config
    assert config.architecture.args["a"] == "7e-4"
    assert config.run.output_dir == Path("2026-01-02")


def test_base_is_merged_by_key_and_lists_are_replaced(base: Path, tmp_path: Path):
    """A config that says only what differs must keep all else, through every file of the chain."""
    child_of(base, "Optimizer: {warmup_steps: 9}\nTrain: {label_files: [{path: c.txt}]}")
    (tmp_path / "deeper").mkdir()
    grandchild = tmp_path / "deeper" / "grandchild.yml"
    grandchild.write_text("_BASE_: ../child.yml\nGlobal: {seed: 3}", encoding="utf-8")
    config = load_config(grandchild)
    assert (config.optimizer.lr, config.optimizer.warmup_steps, config.run.seed) == (7e-4, 9, 3)
    assert [str(one.path) for one in config.train.label_files] == ["c.txt"]


def test_overrides_reach_everything(base: Path):
    """Ablations are overrides: each must change its key and no other, several of one section included."""
    config = load_config(
        base,
        [
            "Train.label_files.1.ratio=2",
            "Train.batch_size=4",
            "Recipe.0.epochs=7",
            "Global.pretrained=",
            "Metric.name=wer",
            "Train.augment=[{name: blur, p: 0.25}]",
            "Train.augment.0.p=0.75",
        ],
    )
    assert [one.ratio for one in config.train.label_files] == [1.0, 2.0]
    assert (config.train.batch_size, config.recipe[0].epochs, config.run.pretrained) == (4, 7, None)
    assert (config.metric.name, config.train.augment[0].p) == ("wer", 0.75)


def test_an_override_of_an_aliased_list_changes_one_place(base: Path):
    """YAML anchors share one object: an override of the training data must not change the evaluation's."""
    text = BASE.replace("Eval: {label_files: [{path: v.txt}]}", "").replace(", ratio: 0.5", "")
    text = text.replace("label_files:\n    - {path: a", "label_files: &data\n    - {path: a")
    base.write_text(text + "Eval: {label_files: *data}\n", encoding="utf-8")
    config = load_config(base, ["Train.label_files.0.path=c.txt"])
    assert [str(one.label_files[0].path) for one in (config.train, config.eval)] == ["c.txt", "a.txt"]


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("Optimzer.lr=3", ["unknown key Optimzer", "did you mean Optimizer?"]),
        ("global.seed=3", ["unknown key global", "did you mean Global?"]),
        ("Recipe.0.epoch=3", ["unknown key Recipe.0.epoch", "did you mean epochs?"]),
        ("Recipe.1.epochs=3", ["unknown key Recipe.1.epochs", "stage, formats, budget_mb"]),
        ("Train.label_files.1.rato=3", ["Train.label_files.1.rato", "did you mean ratio?"]),
        ("Eval.label_files.0.ratio=3", ["Eval.label_files.0.ratio", "path, image_root"]),
        ("Eval.label_files.0.writer_folders=false", ["Eval.label_files.0.writer_folders"]),
        ("Train.label_files.0.writer_folder=false", ["did you mean writer_folders?"]),
        ("Train.label_files.2.ratio=3", ["Train.label_files is a list of 2", "'2'"]),
        ("Train.label_files.-1.ratio=3", ["Train.label_files is a list of 2", "'-1'"]),
        ("Train.label_files.0.path.x=3", ["Train.label_files.0.path is 'a.txt'"]),
        ("Optimizer.lr=-1", ["Optimizer.lr is -1", "greater than 0"]),
        ("Optimizer.lr=fast", ["Optimizer.lr is 'fast'", "valid number"]),
        ("Global.seed=1.5", ["Global.seed is 1.5", "integer"]),
        ("Metric.name=cerr", ["Metric.name is 'cerr'", "'cer', 'wer'"]),
        ("Train=", ["Train is None", "section"]),
        ("Recipe=[{epochs: 1}]", ["Recipe.0.stage is missing"]),
        ("Optimizer.lr=[1", ["not valid YAML"]),
        ("Optimizer={lr: 1, lr: 2}", ["'lr' stands here twice"]),
        ("_BASE_=other.yml", ["unknown key _BASE_"]),
        ("Optimizer.lr", ["Section.key=value"]),
        ("Optimizer..lr=1", ["Section.key=value"]),
        ("Global.seed=!!python/object/apply:os.getcwd []", ["not valid YAML"]),
    ],
)
def test_a_wrong_override_is_named(base: Path, override: str, parts: list):
    """A run of hours with a key that was never used is what a misspelt override costs."""
    error = message(base, override)
    assert error.startswith(f"-o {override}: ")
    for part in parts:
        assert part in error


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Global:\n  outputdir: x\n", ["unknown key Global.outputdir", "did you mean output_dir?"]),
        ("Train:\n  label_files:\n    - {path: a, ration: 3}\n", ["Train.label_files.0.ration", "mean ratio?"]),
        ("Train:\n  label_files:\n    - {ratio: 3}\n", ["Train.label_files.0.path is missing"]),
        ("Optimizer: {lr: fast}", ["Optimizer.lr is 'fast'"]),
        ("Optimizer:", ["Optimizer is None"]),
        ("Optimizer: {lr: 1}\nOptimizer: {lr: 2}", [":3: ", "'Optimizer' stands here twice"]),
        ("Optimizer: [1\nTrain: 3", [":3: ", "not valid YAML"]),
        ("Train: {? [a]: b}", ["not valid YAML"]),
        ("Train: &a\n  label_files: *a", ["not valid YAML"]),
    ],
)
def test_a_wrong_key_is_blamed_on_the_file_that_has_it(base: Path, text: str, parts: list):
    """With files based on each other, an error without the file's name sends the reader to the wrong one."""
    error = message(child_of(base, text))
    assert error.startswith(str(base.parent / "child.yml"))
    for part in parts:
        assert part in error


def test_an_error_of_the_base_is_blamed_on_the_base(base: Path):
    """The same from the other side: the child is innocent."""
    base.write_text(BASE.replace("warmup_steps", "warm_up_steps"), encoding="utf-8")
    error = message(child_of(base, "Optimizer: {lr: 1}"))
    assert error == f"{base}: unknown key Optimizer.warm_up_steps: did you mean warmup_steps?"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"- 1", "mapping of sections"),
        (b"\xff\xfe", "not UTF-8"),
        (b"_BASE_: wrong.yml", "leads back to itself"),
        (b"_BASE_: none.yml", "cannot read the config"),
        (b"_BASE_: [a]", "_BASE_ is ['a']"),
        (b"a: \x01", "not valid YAML"),
        (b"Global: {output_dir: x}", "Architecture is missing"),
    ],
)
def test_a_file_that_is_no_config_is_one_sentence(tmp_path: Path, content: bytes, part: str):
    """Whoever names the wrong file reads one line, not a stack trace."""
    path = tmp_path / "wrong.yml"
    path.write_bytes(content)
    error = message(path)
    assert part in error and "wrong.yml" in error


def test_a_missing_file_is_one_sentence(tmp_path: Path):
    """The commonest slip of all."""
    assert "cannot read the config" in message(tmp_path / "none.yml")


def test_a_longer_circle_is_found(base: Path):
    """Two files based on each other would otherwise be read until Python gives up."""
    child = child_of(base, "")
    base.write_text("_BASE_: child.yml", encoding="utf-8")
    assert "leads back to itself" in message(child)


def test_a_config_cannot_be_changed_after_loading(base: Path):
    """Code that writes facts back into the config makes the saved one a lie."""
    config = load_config(base)
    with pytest.raises(ValueError, match="frozen"):
        config.optimizer.lr = 1.0


def test_the_saved_config_is_plain_yaml(base: Path, tmp_path: Path):
    """Other programs read it too: PaddleOCR's section names, plain values, characters as they are."""
    dump_config(load_config(base, ["Global.output_dir=đầu"]), tmp_path / "saved.yml")
    text = (tmp_path / "saved.yml").read_text(encoding="utf-8")
    assert "output_dir: đầu" in text
    assert list(yaml.safe_load(text))[:2] == ["Global", "Architecture"]


def test_who_set_a_key_is_remembered(base: Path):
    """Names of models and augmentations are checked later; their errors must name the right file or override, too."""
    child = child_of(base, "Train: {augment: [{name: blur}, {name: blurr}]}")
    config = load_config(child, ["Train.augment.0.name=colour", "Architecture.args.hieght=32"])
    assert locate(config, "Train.augment.0.name") == "-o Train.augment.0.name=colour"
    assert locate(config, "Train.augment.1.name") == str(child)
    assert locate(config, "Architecture.args.hieght") == "-o Architecture.args.hieght=32"
    assert locate(config, "Architecture.args.dropout") == str(base)
    assert locate(config, "Train.augment.1.p") == str(child)  # a default of what the child sets
    assert locate(config, "Optimizer.clip_norm") == str(child)  # nobody's: the file that was loaded


def test_configs_that_say_the_same_are_equal_whoever_set_it(base: Path):
    """Otherwise a run could not be continued with the same config in another file."""
    assert load_config(child_of(base, "")) == load_config(base, ["Train.batch_size=32"])
    assert load_config(base) != load_config(base, ["Train.batch_size=16"])


def test_a_config_made_in_code_has_no_file_to_blame(base: Path):
    """The message must come out all the same."""
    config = Config.model_validate(load_config(base).model_dump(by_alias=True))
    assert locate(config, "Architecture.name") == "the config"


# A training stage or an export as it was written, as it is written now, and the former name that a warning must have
RENAMED = [
    ({"stage": "train", "epochs": 1, "steps": [{"guide": {}}]}, {"techniques": [{"guide": {}}]}, "Recipe.0.steps"),
    ({"stage": "export", "language": "a.bin"}, {"language_model": "a.bin"}, "Recipe.0.language"),
    *(
        (
            {"stage": stage, "epochs": 1, "steps": [{name: {**target, "calibration_rows": 5}}]},
            {"techniques": [{name: {**target, "calibration_samples": 5}}]},
            f"Recipe.0.techniques.0.{name}.calibration_rows",
        )
        for stage, name, target in (
            ("prune", "fpgm", {"max_flops": 0.7}),
            ("quantize", "pact", {}),
            ("quantize", "lsq", {}),
        )
    ),
    (
        {"stage": "train", "epochs": 1, "steps": [{"guide": {"smoothing": 0.2}}]},
        {"techniques": [{"guide": {"label_smoothing": 0.2}}]},
        "Recipe.0.techniques.0.guide.smoothing",
    ),
    *(
        (
            {"stage": "train", "epochs": 1, "steps": [{"distill": {"teacher": "t", "losses": [{"name": old}]}}]},
            {"techniques": [{"distill": {"teacher": "t", "losses": [{"name": new}]}}]},
            f"'{old}' in Recipe.0.techniques.0.distill.losses.0.name",
        )
        for old, new in (
            ("features", "feature_mse"),
            ("readings", "pseudo_labels"),
            ("maps", "map_distillation"),
            ("logits", "kl_div"),
        )
    ),
]


@pytest.fixture
def warnings(monkeypatch, caplog):
    """The warnings of this test, whatever the tests before it have been warned about."""
    monkeypatch.setattr(aliases, "_reported", set())
    monkeypatch.setattr(logger, "propagate", True)
    return caplog


@pytest.mark.parametrize(("old", "changes", "said"), RENAMED, ids=[said for _, _, said in RENAMED])
def test_a_former_name_means_what_it_meant(base: Path, tmp_path: Path, warnings, old: dict, changes: dict, said: str):
    """Configs, overrides and saved runs that users have would be refused, or silently do without what they ask for."""
    new = {key: value for key, value in old.items() if key not in ("steps", "language")} | changes
    config = load_config(child_of(base, yaml.safe_dump({"Recipe": [new]})))
    assert not warnings.messages
    child = child_of(base, yaml.safe_dump({"Recipe": [old]}))
    assert load_config(child) == config
    assert load_config(base, [f"Recipe={yaml.safe_dump([old], default_flow_style=True)}"]) == config
    assert load_config(base, changes=[("Recipe", [old])]) == config
    about = [message for message in warnings.messages if said in message]
    assert len(about) == 1 and about[0].startswith(f"{child}: ") and "is now called" in about[0]
    saved = with_former_names(config.model_dump(mode="json", by_alias=True))
    assert with_new_names(saved, "") == config.model_dump(mode="json", by_alias=True)
    key = said.rpartition(".")[2] if "'" not in said else said.split("'")[1]
    assert key in yaml.safe_dump(saved["Recipe"])


def test_every_former_name_is_tested():
    """Otherwise an entry of the table with a slip would do nothing, unseen."""
    patterns = {said.split(" in ")[-1].replace(".0", ".*") for _, _, said in RENAMED}
    assert patterns == {*KEYS, *VALUES} and len(RENAMED) == len(KEYS) + sum(map(len, VALUES.values()))


def test_overrides_reach_into_what_has_another_name_now(base: Path, warnings):
    """Commands in notes and pages say Recipe.0.steps: they must change that very value, in a file of either kind."""
    stage = {"stage": "prune", "epochs": 1, "lr": 0.1}
    for name in ("steps", "techniques"):
        child = child_of(base, yaml.safe_dump({"Recipe": [{**stage, name: [{"fpgm": {"max_flops": 0.7}}]}]}))
        for path in ("Recipe.0.steps.0.fpgm", "Recipe.0.techniques.0.fpgm"):
            for changed in (
                load_config(child, [f"{path}.max_flops=0.8", f"{path}.calibration_rows=9"]),
                load_config(child, changes=[(f"{path}.max_flops", 0.8), (f"{path}.calibration_samples", 9)]),
            ):
                fpgm = changed.recipe[0].techniques[0].fpgm
                assert (fpgm.max_flops, fpgm.calibration_samples) == (0.8, 9)
                where = locate(changed, "Recipe.0.techniques.0.fpgm.max_flops")
                assert where.startswith((f"-o {path}.max_flops", f"set {path}.max_flops"))
    error = message(child, "Recipe.0.steps.0.fpgm.max_flop=0.8")
    assert error.startswith("-o Recipe.0.steps.0.fpgm.max_flop=0.8: unknown key Recipe.0.techniques.0.fpgm.max_flop: ")


def test_a_key_under_both_its_names_is_refused(base: Path):
    """One of the two would win, and nobody could tell which."""
    both = "Recipe: [{stage: train, epochs: 1, steps: [{guide: {}}], techniques: []}]"
    error = message(child_of(base, both))
    assert error.startswith(
        f"{base.parent / 'child.yml'}: Recipe.0.techniques is there twice, once under its former name"
    )


def test_a_run_that_began_under_former_names_goes_on(base: Path, tmp_path: Path):
    """Hours of training would be refused as another experiment, for a word."""
    from ppocr_slim.training.recipe import require_same_experiment

    recipe = [{"stage": "prune", "epochs": 1, "techniques": [{"fpgm": {"max_flops": 0.7, "calibration_samples": 3}}]}]
    config = load_config(base, [f"Global.output_dir={tmp_path}"], changes=[("Recipe", recipe)])
    saved = with_former_names(config.model_dump(mode="json", by_alias=True))
    assert "steps" in saved["Recipe"][0]
    (tmp_path / "config.yml").write_text(yaml.safe_dump(saved), encoding="utf-8")
    (tmp_path / "prune" / "last").mkdir(parents=True)
    require_same_experiment(config)
    other = load_config(tmp_path / "config.yml", ["Recipe.0.steps.0.fpgm.max_flops=0.6"])
    with pytest.raises(SlimError, match="Recipe is another"):
        require_same_experiment(other)


def test_lists_of_augmentations_are_named(base: Path):
    """A saved run, an override of one entry and an error must see the entries, as if they stood in the file."""
    mild, strong = (AUGMENTATIONS[name] for name in ("line_mild", "line_strong"))

    def entries(*arguments, **keys) -> list[dict]:
        augment = load_config(*arguments, **keys).train.augment
        return [entry.model_dump(exclude_unset=True) for entry in augment]

    child = child_of(base, "Train: {augment: line_mild}")
    assert entries(child) == mild
    blur = {"name": "blur", "p": 0.25}
    assert entries(child, ["Train.augment=[{name: blur, p: 0.25}, line_strong]"]) == [blur, *strong]
    assert entries(child, changes=[("Train.augment", ["line_strong", blur])]) == [*strong, blur]
    assert entries(child, changes=[("Train", {"label_files": [{"path": "a"}], "augment": "line_strong"})]) == strong
    assert entries(child, ["Train.augment.1.p=0.9"])[1] == {**mild[1], "p": 0.9}
    assert entries(child, ["Train.augment=[]"]) == []
    assert locate(load_config(child), "Train.augment.2.name") == str(child)
    error = message(child, "Train.augment=[line_mid]")
    assert error.startswith("-o Train.augment=[line_mid]: ") and "did you mean line_mild?" in error
    assert "{name: blur}" in message(child, "Train.augment=blur")


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_named_list_is_one_of_known_augmentations(base: Path, name: str):
    """A list that cannot be used shows only when somebody names it."""
    check_names(load_config(base, [f"Train.augment={name}"]).train.augment)


def test_the_whole_config_is_printed_and_nothing_is_trained(base: Path, tmp_path: Path, capsys):
    """A run's settings would only be known by starting it."""
    command = ["-c", str(base), "--print-config", "-o", "Train.augment=line_mild", "Global.processes=2"]
    assert train.main(command) == 0
    (tmp_path / "printed.yml").write_text(capsys.readouterr().out, encoding="utf-8")
    config = load_config(base, ["Train.augment=line_mild", "Global.processes=2"])
    assert load_config(tmp_path / "printed.yml") == config
    assert "_BASE_" not in (tmp_path / "printed.yml").read_text(encoding="utf-8")


def header(path: Path) -> str:
    """The comment that a config begins with, without the signs; a line that ends in \\ goes on in the next."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    return re.sub(r"\\\n *", "", "\n".join(line[1:].removeprefix(" ") for line in lines))


def commands_of(path: Path) -> list[list[str]]:
    """The commands that a config's header has: the tool's name and its arguments each."""
    found = [shlex.split(line) for line in re.findall(r"^ *python tools/(.+)$", header(path), re.MULTILINE)]
    return [[tool.removesuffix(".py"), *arguments] for tool, *arguments in found]


def is_forward(path: Path) -> bool:
    """Whether a config stands for another one under its former name."""
    return list(yaml.safe_load(path.read_text(encoding="utf-8"))) == ["_BASE_"]


def base_of(path: Path, key: str = "_BASE_") -> Path | None:
    base = yaml.safe_load(path.read_text(encoding="utf-8")).get(key)
    return path.parent / base if base else None


ABLATIONS = sorted((FOLDER / "ablation").glob("*.yml"))
RUNNABLE = [path for path in (*CONFIGS, *ABLATIONS) if not is_forward(path)]


@pytest.mark.parametrize("path", [*CONFIGS, *ABLATIONS], ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_config_is_read_in_one_look(path: Path):
    """Whoever asks what a run does would have to merge a chain of files in mind."""
    base = base_of(path) or base_of(path, "base")
    assert base is None or base_of(base) is None, f"{base} has a base, too"
    assert base is None or not is_forward(base)


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_header_says_how_to_run_its_config(path: Path, monkeypatch):
    """A command that is copied from a header would fail, or train something else, after hours of what precedes it."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(*arguments):
        parse(*arguments)
        raise StopIteration

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    own = str(path.relative_to(FOLDER.parent))
    commands = commands_of(path)
    assert commands[0][:3] == ["ablate" if path in ABLATIONS else "train", "-c", own]
    assert header(path).startswith("python tools/") and "\nTime: " in header(path)
    for tool, *arguments in commands:
        with pytest.raises(StopIteration):
            importlib.import_module(f"ppocr_slim.cli.{tool}").main(arguments)
        assert "-c" not in arguments or (FOLDER.parent / arguments[arguments.index("-c") + 1]).is_file()


def made_by(path: Path) -> set[str]:
    """The folders that the commands of a config's header, and of those that these name, fill."""
    folders = {"dataset/synth", "dataset/pages", str(PRETRAINED)}  # where tools write unasked, and what ships
    for tool, *arguments in commands_of(path):
        if "--out" in arguments:
            folders.add(arguments[arguments.index("--out") + 1])
        if tool == "train":
            config = FOLDER.parent / arguments[arguments.index("-c") + 1]
            folders.add(str(load_config(config).run.output_dir))
            folders |= made_by(config) if config != path else set()
    return folders


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_header_names_what_its_config_needs(path: Path, tmp_path: Path, monkeypatch):
    """A first training would stop for want of data or weights that no command before it has made."""
    monkeypatch.chdir(tmp_path)  # from there a bundle that ships is an absolute path
    configs = [load_config(path)] if path in CONFIGS else [one.config for one in load_ablation(path)[1]]
    made = made_by(path)
    for config in configs:
        stages = [stage for stage in config.recipe if isinstance(stage, TrainStage)]
        teachers = [entry.distill.teacher for stage in stages for entry in stage.techniques if entry.distill]
        files = [file.path for file in (*config.train.label_files, *config.eval.label_files)]
        for needed in filter(None, (*files, *teachers, config.run.pretrained, config.run.character_dict_path)):
            assert any(needed.is_relative_to(folder) for folder in made), f"no command makes {needed}"
        if path in CONFIGS:
            result = re.search(r"^Result: (.+(?:\n  .+)*)", header(path), re.MULTILINE)[1]
            assert f"{config.run.output_dir}/" in result
            exports = any(isinstance(stage, ExportStage) for stage in config.recipe)
            assert (f"{config.run.output_dir}/export" in result) == exports


def test_the_configs_that_ship_have_no_former_names(warnings):
    """They are what users copy."""
    for path in CONFIGS:
        load_config(path)
    for path in ABLATIONS:
        load_ablation(path)
    assert not warnings.messages
