"""Teachers that are configs: they are trained before the student that names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.config.loading import load_config
from ppocr_slim.config.schema import Config
from ppocr_slim.errors import SlimError
from ppocr_slim.folders import BEST, PROGRAM
from ppocr_slim.training.launch import run_command

ENDINGS = (".yml", ".yaml")


def teacher_configs(config: Config) -> list[Path]:
    """Return the teachers of a config that are configs."""
    return [teacher for teacher in config.teachers if teacher.suffix in ENDINGS]


def with_trained_teachers(config: Config) -> Config:
    """Return a config in which checkpoints stand in the place of configs.

    Raises:
        SlimError: a teacher's config is wrong, or it trains nothing.
    """
    return config.with_trained({path: _checkpoint(path, _load(path)) for path in teacher_configs(config)})


def train_teachers(config: Config) -> int:
    """Train a config's teachers, each by the command train in a process of its own; what is trained is kept.

    All that can be wrong with the student is said before, and not after the days that a teacher may take.

    Returns:
        The exit status of the first command that failed; 0.

    Raises:
        SlimError: a config is wrong, a teacher does not fit the student, or it needs itself.
    """
    order = _order(config)
    if order and not all((_checkpoint(path, teacher)).exists() for path, teacher in order.items()):
        _check_student(config)
    for path in order:
        status = run_command([str(PROGRAM), "train", "-c", str(path)])
        if status:
            return status
    return 0


def require_no_configs(config: Config, what: str) -> None:
    """Refuse teachers that are configs.

    Args:
        config: the config.
        what: what cannot train them, for the message.

    Raises:
        SlimError: there is one.
    """
    for teacher in teacher_configs(config):
        raise SlimError(f"{what} trains no teacher {teacher}: train it first, and name its checkpoint as the teacher")


def _load(path: Path) -> Config:
    try:
        return load_config(path)
    except SlimError as error:
        raise SlimError(f"the teacher {path}: {error}") from error


def _checkpoint(path: Path, config: Config) -> Path:
    if not config.training_folders:
        raise SlimError(f"the teacher {path} trains nothing: name a config with a training stage")
    return config.training_folders[-1] / BEST


def _order(config: Config, above: Sequence[Path] = ()) -> dict[Path, Config]:
    """Return the configs to train, a teacher's own teachers before it.

    Args:
        config: whose teachers they are.
        above: the configs on the way to it.
    """
    found: dict[Path, Config] = {}
    for path in teacher_configs(config):
        if path.resolve() in above:
            raise SlimError(
                f"the teacher {path} would be taught by itself: set Global.teacher in it to null or to another one"
            )
        teacher = _load(path)
        if teacher.run.output_dir.absolute() == config.run.output_dir.absolute():
            raise SlimError(f"the teacher {path} has its student's Global.output_dir: give it another one")
        found.update(_order(teacher, (*above, path.resolve())))
        found[path] = teacher
    return found


def _check_student(config: Config) -> None:
    """Check a student, its data, and that its teachers are of its task and know its characters.

    Raises:
        SlimError: something does not fit.
    """
    from ppocr_slim.tasks.checks import check_config, prepare_data  # they load Paddle

    spec = prepare_data(check_config(config)).spec
    for path in teacher_configs(config):
        try:
            taught = prepare_data(check_config(_load(path))).spec
        except SlimError as error:
            raise SlimError(f"the teacher {path}: {error}") from error
        if taught.task != spec.task:
            raise SlimError(f"the teacher {path} is a network of task {taught.task}: choose one of task {spec.task}")
        ours, theirs = (set(getattr(one, "characters", ())) for one in (spec, taught))
        if ours != theirs:
            raise SlimError(
                f"the teacher {path} has other characters than the student: of {len(ours)} it lacks "
                f"{sorted(ours - theirs)[:5]} and has {sorted(theirs - ours)[:5]} besides; set "
                "Global.character_dict_path in both"
            )
