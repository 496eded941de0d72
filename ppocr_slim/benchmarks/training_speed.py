"""The training benchmark: stock Paddle, this project and PyTorch take turns at the same networks on the same data.

Every contender is a process of its own (or several, as in a training) that trains for a few steps when told and waits
otherwise. Rounds go stock, ours, torch, stock, ours, torch: what slows the machine down for a while meets all of them.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import psutil
from tqdm import tqdm

from ppocr_slim.config.loading import load_config
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.errors import SlimError
from ppocr_slim.models import MODELS
from ppocr_slim.reports.provenance import PROGRAM, ROOT, provenance
from ppocr_slim.runtime.images import load_image
from ppocr_slim.synth.dataset import synthesize
from ppocr_slim.synth.page_dataset import PageRecipe, synthesize_pages
from ppocr_slim.synth.pages import PageOptions
from ppocr_slim.training.launch import FIRST_LOG, end_with_parent, launch, launched
from ppocr_slim.training.runlog import read_log

LINES = 128  # made for the recognizers; after some epochs all are decoded, as in a training
LINE_SIZE = (960, 64)  # pixels; every recognizer of a case reads lines 15 times as wide as high
PAGES = 24  # made for the detector, which decodes each anew, as in a training
MANY = 10**9  # steps: a contender never gets to the end of its training
STOCK = "stock"
SETTLE = 1  # steps at the start of a turn that do not count
MEMORY_EVERY = 50  # steps
LAST_WORDS = 6  # lines
PACKAGES = ("paddlepaddle", "numba", "numpy")
TORCH_PROBE = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"


@dataclass(frozen=True)
class Case:
    """A network, the size of its input, and the config whose optimizer and augmentation it trains with."""

    name: str
    title: str
    model: str
    args: Mapping[str, Any]
    height: int
    width: int
    batch: int
    config: str = "configs/kalapa/rec_2_slim.yml"
    trim: bool = False  # hand freed memory back after each turn: all contenders together would need too much


CASES = {
    case.name: case
    for case in (
        Case("crnn_x05", "crnn_mv3_slim x0.5", "crnn_mv3_slim", {"scale": 0.5, "height": 32}, 32, 480, 32),
        Case("shipped", "crnn_mv3_slim x0.75", "crnn_mv3_slim", {}, 40, 600, 32),
        Case("teacher", "crnn_teacher", "crnn_teacher", {}, 48, 720, 32, "configs/rec_teacher.yml", trim=True),
        Case("detector", "db_mv3_slim", "db_mv3_slim", {}, 320, 320, 8, "configs/kalapa/det_1_pretrain.yml"),
    )
}


@dataclass(frozen=True)
class ContenderPlan:
    """How a contender runs: `processes` of `batch` images each, with or without this project's kernels."""

    name: str
    processes: int
    batch: int
    fast: bool
    torch: bool = False


def plans(case: Case, processes: int, torch: bool) -> list[ContenderPlan]:
    """Return the contenders of a case, in the order of a round.

    Raises:
        SlimError: the batch cannot be shared out.
    """
    if case.batch < 1 or case.batch % processes:
        raise SlimError(f"{case.name}: a batch of {case.batch} cannot be shared out to {processes} processes")
    found = [ContenderPlan(STOCK, 1, case.batch, fast=False)]
    if processes > 1:
        found.append(ContenderPlan("ours", processes, case.batch // processes, fast=True))
        found.append(ContenderPlan("ours, larger batch", processes, case.batch, fast=True))
    found.append(ContenderPlan("ours, one process" if processes > 1 else "ours", 1, case.batch, fast=True))
    return found + ([ContenderPlan("torch", 1, case.batch, fast=False, torch=True)] if torch else [])


class Contender:
    """A running contender. It starts with `ready`, trains with `go`, and leaves nothing behind after `close`."""

    def __init__(
        self, plan: ContenderPlan, case: Case, folder: Path, data: Path, shared: Path | None = None, **changes
    ):
        """`shared`: where stock describes the network and torch reads it; `changes` of what it is told."""
        self.plan, self.case, self.folder = plan, case, folder
        self._log, self._connections = folder / "contender.log", []
        folder.mkdir(parents=True)
        # The path of a socket must be short, whatever the temporary folder is called.
        self._place = tempfile.TemporaryDirectory(prefix="bench", dir="/tmp")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{self._place.name}/s")
        self._listener.listen(plan.processes)
        self._listener.settimeout(0.2)
        config = load_config(ROOT / case.config)
        self.spec = {
            "socket": f"{self._place.name}/s",
            "folder": str(folder.resolve()),
            "data": str(data.resolve()),
            "shared": str(shared.resolve()) if shared else None,
            "config": str(ROOT / case.config),
            "model": case.model,
            "args": dict(case.args),
            "width": case.width,
            "batch": plan.batch,
            "processes": plan.processes,
            "fast": plan.fast,
            "stock": not plan.fast,
            "steps": MANY,
            "trim": case.trim,
            "log_every_steps": config.run.log_every_steps,
            "threads": usable_cores(),
            "seed": config.run.seed,
            "optimizer": config.optimizer.model_dump(),
            **changes,
        }
        self._process: subprocess.Popen | None = None

    def ready(self, python: str = sys.executable) -> dict[str, Any]:
        """Start the processes.

        Returns:
            What the first one says of itself when all are there.
        """
        path = self.folder / "spec.json"
        path.write_text(json.dumps(self.spec), encoding="utf-8")
        if self.plan.torch:
            # -I: what lies beside that file is not for other interpreters
            command = [python, "-I", str(ROOT / "ppocr_slim/benchmarks/torch_twin.py"), str(path)]
        else:
            command = [python, str(PROGRAM), "bench-training", "--contender", str(path)]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=contender_environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is the benchmark's: it ends them all
                preexec_fn=end_with_parent,
            )
        while len(self._connections) < self.plan.processes:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                if self._process.poll() is not None:
                    raise self._died() from None
                continue
            connection.setblocking(True)
            self._connections.append(_Connection(connection))
        hellos = self._answers()
        for connection, hello in zip(self._connections, hellos):
            connection.rank = hello["rank"]
        return hellos[0]

    def go(self, steps: int, settle: int = 0) -> dict[str, Any]:
        """Train for `steps` after `settle` that do not count.

        Gives seconds, images of all processes, and the longest time that one of them waited for data.
        """
        for connection in self._connections:
            connection.ask(f"{settle} {steps}")
        answers = self._answers()
        waited = [answer["waited"] for answer in answers if answer["waited"] is not None]
        return {
            "seconds": max(answer["seconds"] for answer in answers),
            "images": sum(answer["images"] for answer in answers),
            "waited": max(waited) if waited else None,
        }

    def _answers(self) -> list[dict[str, Any]]:
        """Return a record of each process. SlimError with its last words where one has ended instead."""
        answers: dict[_Connection, dict[str, Any]] = {}
        while len(answers) < len(self._connections):
            silent = [c for c in self._connections if c not in answers]
            for connection in select.select(silent, [], [])[0]:
                line = connection.line()
                if not line:
                    raise self._died(connection.rank)
                answers[connection] = json.loads(line)
        return [answers[connection] for connection in self._connections]

    def memory(self, entry: str) -> float:
        """Megabytes over all processes: "VmRSS" what they hold now, "VmHWM" the sum of what each held at most."""
        kilobytes = 0
        for process in self._processes():
            try:
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            except OSError:
                continue  # it has just ended
            kilobytes += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(entry + ":"))
        return kilobytes * 1024 / 1e6

    def _processes(self) -> list[psutil.Process]:
        try:
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _died(self, rank: int | None = None) -> SlimError:
        """Return what to say of a contender that has ended."""
        logs = [self.folder / "processes" / f"{FIRST_LOG.rpartition('.')[0]}.{n}" for n in range(self.plan.processes)]
        logs = logs[rank:][:1] if rank is not None else logs
        time.sleep(0.5)  # until its last words are written
        words: list[str] = []
        for log in [self._log, *logs]:
            if log.exists():
                said = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
                words = [line for line in said if line.strip()][-LAST_WORDS:] or words
        status = self._process.poll()
        how = f" with status {status}" if status is not None else ""
        said = "".join(f"\n    {line}" for line in words) or " nothing"
        return SlimError(f"{self.case.name}: the contender {self.plan.name!r} ended{how}; its last words:{said}")

    def close(self) -> None:
        """End all its processes at once: there is nothing to save."""
        processes = self._processes() if self._process else []
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        if self._process:
            self._process.wait()
        psutil.wait_procs(processes, timeout=10)
        for connection in self._connections:
            connection.close()
        self._listener.close()
        self._place.cleanup()

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *error) -> None:
        self.close()


class _Connection:
    """A line to one process of a contender."""

    def __init__(self, connection: socket.socket):
        self._socket, self._lines = connection, connection.makefile("rb")
        self.rank: int | None = None

    def fileno(self) -> int:
        return self._socket.fileno()

    def ask(self, words: str) -> None:
        try:
            self._socket.sendall(f"{words}\n".encode())
        except OSError:
            pass  # it has ended; the answer that does not come says so

    def line(self) -> bytes:
        try:
            return self._lines.readline()
        except OSError:
            return b""

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def contender_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what tunes threads or memory: everybody starts from what a user has who set
    nothing.
    """
    tuned = ("OMP_", "KMP_", "GOMP_", "MALLOC_", "GLIBC_TUNABLES", "PYTORCH_", "PADDLE_", "MKL_", "FLAGS_", "OPENBLAS_")
    return {name: value for name, value in environment.items() if not name.startswith(tuned)}


def run_contender(path: Path) -> int:
    """Return what a contender's process does: train, alone or as one of several.

    Returns:
        The exit status.
    """
    spec = json.loads(path.read_text(encoding="utf-8"))
    if spec["stock"]:
        # Importing this package has set it, for processors on which Paddle's own choice is slow.
        os.environ.pop("MKL_DEBUG_CPU_TYPE", None)
    if spec["processes"] > 1 and not launched():
        return launch(spec["processes"], sys.argv, Path(spec["folder"]) / "processes")
    from ppocr_slim.benchmarks.contender import contend  # imports paddle, which reads its environment once

    contend(spec)
    return 0


@dataclass(frozen=True)
class TrainingSpeedSettings:
    """What to measure.

    Attributes:
        rounds: 0: no comparison.
        steps: of a contender in a round.
        warm_up: steps of each before the first round, in which kernels are compiled and buffers found.
        curve: steps of the comparison of training curves; 0: none.
        memory: steps over which memory is watched; 0: none.
        torch_python: an interpreter that has torch; None: this one, if it has.
    """

    cases: Sequence[Case]
    rounds: int = 4
    steps: int = 5
    warm_up: int = 8
    processes: int = field(default_factory=usable_cores)
    curve: int = 0
    memory: int = 0
    torch_python: str | None = None


def run_training_benchmark(settings: TrainingSpeedSettings, command: str) -> Iterator[dict[str, Any]]:
    """Run the cases.

    Returns:
        All figures so far after each of them.

    Raises:
        SlimError: a contender dies or the settings make no sense.
    """
    checked = {"processes": 1, "steps": 1, "rounds": 0, "curve": 0, "memory": 0}
    for name, least in checked.items():
        value = getattr(settings, name)
        if value < least:
            raise SlimError(f"--{name} {value}: give {least} or more")
    torch_python = find_torch(settings.torch_python)
    everybody = {case.name: plans(case, settings.processes, torch_python is not None) for case in settings.cases}
    figures: dict[str, Any] = {
        **provenance(command, PACKAGES),
        "rounds": settings.rounds,
        "steps": settings.steps,
        "cases": [],
    }
    with _ended_alike(), tempfile.TemporaryDirectory(prefix="bench_training") as place:
        folder = Path(place)
        made: dict[str, Path] = {}
        for case in settings.cases:
            task = MODELS[case.model].task
            if task not in made:
                made[task] = make_pages(folder / task, PAGES) if task == "det" else make_lines(folder / task, LINES)
            data = made[task]
            contenders = everybody[case.name]
            results: dict[str, Any] = {
                "name": case.name,
                "title": case.title,
                "model": case.model,
                "args": dict(case.args),
                "size": [case.height, case.width],
                "batch": case.batch,
            }
            if settings.rounds:
                results.update(_compare(case, contenders, settings, folder / case.name, data, torch_python))
                figures["versions"].update(results.pop("versions"))
            if settings.curve:
                results["curve"] = _curve(case, settings.curve, folder / case.name, data)
            if settings.memory:
                ours = next(plan for plan in contenders if plan.name == "ours")
                results["memory"] = _memory(case, ours, settings, folder / case.name, data)
            figures["cases"].append(results)
            yield figures


@contextmanager
def _ended_alike():
    """SIGTERM ends the benchmark as Ctrl-C does: its processes and its folder go with it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def find_torch(python: str | None) -> str | None:
    """Return an interpreter that has torch: `python`, else this one, else None.

    Raises:
        SlimError: `python` has none.
    """
    try:
        found = subprocess.run([python or sys.executable, "-c", TORCH_PROBE], capture_output=True).returncode == 0
    except OSError as error:
        raise SlimError(f"--torch-python {python}: cannot be run ({error.strerror})") from error
    if python and not found:
        raise SlimError(f"--torch-python {python}: has no torch")
    return (python or sys.executable) if found else None


def make_lines(folder: Path, count: int) -> Path:
    """Generate text lines of one size: no batch has padding, and every batch has one shape.

    Returns:
        The label file.
    """
    synthesize(folder, count, workers=1, progress=False)
    samples, _ = read_label_file(folder / "train.txt")
    for sample in samples:
        image = cv2.resize(load_image(sample.path), LINE_SIZE, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(sample.path), image)
    return folder / "train.txt"


def make_pages(folder: Path, count: int) -> Path:
    """Generate photographed pages with their boxes.

    Returns:
        The label file.
    """
    synthesize_pages(folder, count, 0, PageRecipe(1, PageOptions()), workers=1, progress=False)
    return folder / "train.txt"


def _compare(
    case: Case,
    contenders: Sequence[ContenderPlan],
    settings: TrainingSpeedSettings,
    folder: Path,
    data: Path,
    torch_python: str | None,
) -> dict[str, Any]:
    """Return the rounds of a case: what `summarize` makes of them, with parameters and versions."""
    rounds: list[dict[str, dict[str, Any]]] = []
    found: dict[str, str] = {}
    parameters = 0
    total = (settings.rounds + 1) * len(contenders)
    with ExitStack() as stack, tqdm(total=total, desc=case.name, unit="turn", dynamic_ncols=True) as bar:
        running = []
        for number, plan in enumerate(contenders):
            bar.set_postfix_str(f"{plan.name} warms up")
            if running:
                require_memory(case, plan, running[0].memory("VmHWM"))
            shared = folder if plan.torch or (plan.name == STOCK and torch_python) else None
            contender = stack.enter_context(Contender(plan, case, folder / str(number), data, shared))
            hello = contender.ready(torch_python if plan.torch else sys.executable)
            parameters = parameters or hello["parameters"]
            if hello["parameters"] != parameters:
                raise SlimError(f"{case.name}: {plan.name} has {hello['parameters']} parameters, stock {parameters}")
            found.update({"torch": hello["torch"]} if "torch" in hello else {})
            contender.go(settings.warm_up)
            running.append(contender)
            bar.update()
        for number in range(settings.rounds):
            taken = {}
            for contender in running:
                bar.set_postfix_str(f"round {number + 1} of {settings.rounds}, {contender.plan.name}")
                taken[contender.plan.name] = contender.go(settings.steps, SETTLE)
                bar.update()
            rounds.append(taken)
        peaks = {contender.plan.name: contender.memory("VmHWM") for contender in running}
    return {"parameters": parameters, "versions": found, "contenders": summarize(contenders, rounds, peaks)}


def require_memory(case: Case, plan: ContenderPlan, stock: float) -> None:
    """.

    Otherwise the system would end some process, of whoever.

    Raises:
        SlimError: a contender will not fit, `stock` being what stock needed at most, in megabytes.
    """
    need = stock * max(1.0, plan.processes * plan.batch / case.batch)
    free = psutil.virtual_memory().available / 1e6
    if need > free:
        raise SlimError(
            f"{case.name}: {plan.name!r} needs about {need / 1e3:.1f} GB of memory, {free / 1e3:.1f} GB are free: "
            "give a smaller --batch"
        )


def summarize(
    contenders: Sequence[ContenderPlan], rounds: Sequence[Mapping[str, Mapping[str, Any]]], peaks: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the figures of each contender.

    images_per_s is the median of the rounds; ratio is the median of the rounds' own ratios to stock, which what
    disturbed one round alike leaves alone; waiting_share is that of all rounds, None where it is not known.
    """
    speeds = {p.name: [taken[p.name]["images"] / taken[p.name]["seconds"] for taken in rounds] for p in contenders}
    found = []
    for plan in contenders:
        seconds = sum(taken[plan.name]["seconds"] for taken in rounds)
        waits = [taken[plan.name]["waited"] for taken in rounds]
        found.append(
            {
                "name": plan.name,
                "processes": plan.processes,
                "batch": plan.batch,
                "images_per_s": statistics.median(speeds[plan.name]),
                "ratio": statistics.median(a / b for a, b in zip(speeds[plan.name], speeds[STOCK])),
                "peak_mb": peaks[plan.name],
                "waiting_share": None if None in waits else sum(waits) / seconds,
                "rounds": speeds[plan.name],
            }
        )
    return found


def _curve(case: Case, steps: int, folder: Path, data: Path) -> dict[str, Any]:
    """Return the losses of the same steps with Paddle's kernels and with ours, and how far they are apart."""
    losses: list[list[float]] = []
    for name, fast in ((STOCK, False), ("fast", True)):
        place = folder / f"curve_{name}"
        plan = ContenderPlan(name, 1, case.batch, fast)
        # One step more than is trained: the last one of a training would be evaluated and saved.
        with Contender(plan, case, place, data, steps=steps + 1, log_every_steps=1) as contender:
            contender.ready()
            for _ in tqdm(range(steps), desc=f"{case.name}, curve of {name}", unit="step", dynamic_ncols=True):
                contender.go(1)
        losses.append([record["loss"] for record in read_log(place / "run")][:steps])
    return {"steps": steps, STOCK: losses[0], "fast": losses[1], **apart(*losses)}


def apart(a: Sequence[float], b: Sequence[float]) -> dict[str, float]:
    """Return how far two curves are apart: at most, and at their end."""
    differences = [abs(x - y) for x, y in zip(a, b)]
    return {"largest_difference": max(differences), "final_difference": differences[-1]}


def _memory(
    case: Case, plan: ContenderPlan, settings: TrainingSpeedSettings, folder: Path, data: Path
) -> dict[str, Any]:
    """Return what our contender holds while it trains: [step, megabytes of all its processes]."""
    held: list[tuple[int, float]] = []
    with Contender(plan, case, folder / "memory", data, trim=False) as contender:
        contender.ready()
        with tqdm(total=settings.memory, desc=f"{case.name}, memory", unit="step", dynamic_ncols=True) as bar:
            for done in range(0, settings.memory, MEMORY_EVERY):
                steps = min(MEMORY_EVERY, settings.memory - done)
                contender.go(steps)
                held.append((done + steps, contender.memory("VmRSS")))
                bar.update(steps)
    return {"steps": settings.memory, "resident_mb": held}
