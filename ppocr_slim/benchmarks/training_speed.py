"""The training benchmark: stock Paddle, this project and PyTorch take turns at the same networks on the same data.

Each contender is a process of its own (or several, as in a training) that trains for a few steps on request and waits
otherwise. They take turns, stock, ours, torch, stock, ours, torch: a machine that is slow for a while slows them all.
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

from ppocr_slim.config.loading import load_config
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.errors import SlimError
from ppocr_slim.folders import PROGRAM, ROOT
from ppocr_slim.models import MODELS
from ppocr_slim.progress import progress_bar
from ppocr_slim.reports.provenance import provenance
from ppocr_slim.runtime.images import load_image
from ppocr_slim.synth.dataset import synthesize
from ppocr_slim.synth.page_dataset import PageRecipe, synthesize_pages
from ppocr_slim.synth.pages import PageOptions
from ppocr_slim.training.launch import FIRST_LOG, end_with_parent, launch, launched
from ppocr_slim.training.runlog import read_log

LINES = 128  # synthetic lines for the recognizers; after some epochs all are decoded, as in a training
LINE_SIZE = (960, 64)  # width and height in pixels; the input of each recognizer is 15 times as wide as high
PAGES = 24  # synthetic pages for the detector, which decodes them in every epoch, as in a training
ENDLESS = 10**9  # steps: no contender reaches the end of its training
STOCK = "stock"
SETTLE = 1  # steps at the start of a turn that are not timed
MEMORY_EVERY = 50  # steps
LOG_TAIL = 6  # lines of a log in an error message
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
    trim: bool = False  # return freed memory after each turn: all contenders together would need too much


CONV = {"kind": "conv", "channels": 192, "depth": 5, "kernel": 11}  # the neck of what the shipped one was pruned from
CASES = {
    case.name: case
    for case in (
        Case("crnn_x05", "crnn_mv3_slim x0.5", "crnn_mv3_slim", {"scale": 0.5, "height": 32}, 32, 480, 32),
        Case("lstm", "crnn_mv3_slim x0.75, LSTM", "crnn_mv3_slim", {"height_stride": 16}, 48, 720, 32),
        Case("conv", "crnn_mv3_slim x0.75, conv", "crnn_mv3_slim", {"height_stride": 16, "neck": CONV}, 48, 720, 32),
        Case("teacher", "crnn_teacher", "crnn_teacher", {}, 48, 720, 32, "configs/rec_teacher.yml", trim=True),
        Case("detector", "db_mv3_slim", "db_mv3_slim", {}, 320, 320, 8, "configs/kalapa/det_1_pretrain.yml"),
    )
}


@dataclass(frozen=True)
class ContenderPlan:
    """A contender: the number of its processes, their batch size, and whether it has this project's kernels."""

    name: str
    processes: int
    batch: int
    fast: bool
    torch: bool = False


def contender_plans(case: Case, processes: int, torch: bool) -> list[ContenderPlan]:
    """Return the contenders of a case, in the order of a round.

    Args:
        case: the case.
        processes: number of processes of this project's training.
        torch: with PyTorch.

    Raises:
        SlimError: the batch cannot be divided among the processes.
    """
    if case.batch < 1 or case.batch % processes:
        raise SlimError(f"{case.name}: a batch of {case.batch} cannot be divided among {processes} processes")
    found = [ContenderPlan(STOCK, 1, case.batch, fast=False)]
    if processes > 1:
        found.append(ContenderPlan("ours", processes, case.batch // processes, fast=True))
        found.append(ContenderPlan("ours, larger batch", processes, case.batch, fast=True))
    found.append(ContenderPlan("ours, one process" if processes > 1 else "ours", 1, case.batch, fast=True))
    return found + ([ContenderPlan("torch", 1, case.batch, fast=False, torch=True)] if torch else [])


class Contender:
    """The processes of a contender: `start` starts them, `train` runs a turn, `close` ends them.

    Args:
        plan: the contender.
        case: what it trains.
        folder: new folder for its files.
        data: label file.
        shared: folder in which stock writes the network and batches, and torch reads them; None: neither.
        changes: changes of `spec`, the JSON that its processes get.
    """

    def __init__(
        self, plan: ContenderPlan, case: Case, folder: Path, data: Path, shared: Path | None = None, **changes
    ):
        self.plan, self.case, self.folder = plan, case, folder
        self._log, self._connections = folder / "contender.log", []
        folder.mkdir(parents=True)
        # The path of a socket must be short, and that of the temporary folder may be long.
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
            "steps": ENDLESS,
            "trim": case.trim,
            "log_every_steps": config.run.log_every_steps,
            "threads": usable_cores(),
            "seed": config.run.seed,
            "optimizer": config.optimizer.model_dump(),
            **changes,
        }
        self._process: subprocess.Popen | None = None

    def start(self, python: str = sys.executable) -> dict[str, Any]:
        """Start the processes and wait until all have connected.

        Args:
            python: Python interpreter.

        Returns:
            The hello record of the first process.

        Raises:
            SlimError: a process has ended instead.
        """
        path = self.folder / "spec.json"
        path.write_text(json.dumps(self.spec), encoding="utf-8")
        if self.plan.torch:
            # -I: this project's modules must not be importable from there
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
                start_new_session=True,  # the benchmark handles Ctrl-C and ends all processes
                preexec_fn=end_with_parent,
            )
        while len(self._connections) < self.plan.processes:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                if self._process.poll() is not None:
                    raise self._exit_error() from None
                continue
            connection.setblocking(True)
            self._connections.append(_Connection(connection))
        hellos = self._records()
        for connection, hello in zip(self._connections, hellos):
            connection.rank = hello["rank"]
        return hellos[0]

    def train(self, steps: int, settle: int = 0) -> dict[str, Any]:
        """Run a turn.

        Args:
            steps: timed training steps.
            settle: steps before them that are not timed.

        Returns:
            The seconds, the images of all processes, and the longest time that one of them waited for data.

        Raises:
            SlimError: a process has ended instead.
        """
        for connection in self._connections:
            connection.send(f"{settle} {steps}")
        records = self._records()
        waited = [record["waited"] for record in records if record["waited"] is not None]
        return {
            "seconds": max(record["seconds"] for record in records),
            "images": sum(record["images"] for record in records),
            "waited": max(waited) if waited else None,
        }

    def _records(self) -> list[dict[str, Any]]:
        """Return the next record of each process.

        Raises:
            SlimError: a process has ended instead; the message has the end of its log.
        """
        records: dict[_Connection, dict[str, Any]] = {}
        while len(records) < len(self._connections):
            waiting = [connection for connection in self._connections if connection not in records]
            for connection in select.select(waiting, [], [])[0]:
                line = connection.receive()
                if not line:
                    raise self._exit_error(connection.rank)
                records[connection] = json.loads(line)
        return [records[connection] for connection in self._connections]

    def memory(self, entry: str) -> float:
        """Return the megabytes of all processes.

        Args:
            entry: "VmRSS" for the resident memory, "VmHWM" for the sum of the peaks of the processes.
        """
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

    def _exit_error(self, rank: int | None = None) -> SlimError:
        """Return the error of a contender whose process of this rank has ended; None: any."""
        logs = [self.folder / "processes" / f"{FIRST_LOG.rpartition('.')[0]}.{n}" for n in range(self.plan.processes)]
        logs = logs[rank:][:1] if rank is not None else logs
        time.sleep(0.5)  # until the end of its log is written
        tail: list[str] = []
        for log in [self._log, *logs]:
            if log.exists():
                lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
                tail = [line for line in lines if line.strip()][-LOG_TAIL:] or tail
        status = self._process.poll()
        how = f" with status {status}" if status is not None else ""
        output = "".join(f"\n    {line}" for line in tail) or " nothing"
        return SlimError(f"{self.case.name}: the contender {self.plan.name!r} ended{how}; its last output:{output}")

    def close(self) -> None:
        """Kill all processes: there is nothing to save."""
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
    """The socket connection to one process of a contender; an ended process sends b"" as its line."""

    def __init__(self, connection: socket.socket):
        self._socket, self._lines = connection, connection.makefile("rb")
        self.rank: int | None = None

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, request: str) -> None:
        try:
            self._socket.sendall(f"{request}\n".encode())
        except OSError:
            pass  # the process has ended: `receive` reports it

    def receive(self) -> bytes:
        try:
            return self._lines.readline()
        except OSError:
            return b""

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def contender_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables that tune threads or memory, so that no contender has an advantage."""
    tuned = ("OMP_", "KMP_", "GOMP_", "MALLOC_", "GLIBC_TUNABLES", "PYTORCH_", "PADDLE_", "MKL_", "FLAGS_", "OPENBLAS_")
    return {name: value for name, value in environment.items() if not name.startswith(tuned)}


def run_contender(path: Path) -> int:
    """Train as a contender's process, alone or as one of several.

    Args:
        path: JSON file of its spec.

    Returns:
        The exit status.
    """
    spec = json.loads(path.read_text(encoding="utf-8"))
    if spec["stock"]:
        # Importing this package has set it, for processors on which Paddle's default is slow.
        os.environ.pop("MKL_DEBUG_CPU_TYPE", None)
    if spec["processes"] > 1 and not launched():
        return launch(spec["processes"], sys.argv, Path(spec["folder"]) / "processes")
    from ppocr_slim.benchmarks.contender import contend  # imports paddle, which reads its environment once

    contend(spec)
    return 0


@dataclass(frozen=True)
class TrainingSpeedSettings:
    """Settings of the training benchmark.

    Attributes:
        cases: the cases.
        rounds: timing rounds; 0: no comparison.
        steps: steps of a contender in a round.
        warm_up: steps of each contender before the first round, in which kernels are compiled and buffers allocated.
        processes: number of processes of this project's training.
        curve: steps of the comparison of training curves; 0: none.
        memory: steps over which the memory is recorded; 0: none.
        torch_python: Python interpreter in which torch is installed; None: this one, if it is.
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
    """Run the benchmark.

    Args:
        settings: what to measure.
        command: the command line, for the report.

    Yields:
        After each case the results so far, as plain dicts; see `reports.records.TrainingSpeed`.

    Raises:
        SlimError: a contender ended, or a setting is out of its range.
    """
    checked = {"processes": 1, "steps": 1, "rounds": 0, "curve": 0, "memory": 0}
    for name, minimum in checked.items():
        value = getattr(settings, name)
        if value < minimum:
            raise SlimError(f"--{name} is {value}; it must be at least {minimum}")
    torch_python = find_torch(settings.torch_python)
    plans = {case.name: contender_plans(case, settings.processes, torch_python is not None) for case in settings.cases}
    results: dict[str, Any] = {
        **provenance(command, PACKAGES),
        "rounds": settings.rounds,
        "steps": settings.steps,
        "cases": [],
    }
    with _sigterm_as_interrupt(), tempfile.TemporaryDirectory(prefix="bench_training") as place:
        folder = Path(place)
        data_of_task: dict[str, Path] = {}
        for case in settings.cases:
            task = MODELS[case.model].task
            if task not in data_of_task:
                generate, count = (generate_pages, PAGES) if task == "det" else (generate_lines, LINES)
                data_of_task[task] = generate(folder / task, count)
            data = data_of_task[task]
            contenders = plans[case.name]
            result: dict[str, Any] = {
                "name": case.name,
                "title": case.title,
                "model": case.model,
                "args": dict(case.args),
                "size": [case.height, case.width],
                "batch": case.batch,
            }
            if settings.rounds:
                result.update(_compare(case, contenders, settings, folder / case.name, data, torch_python))
                results["versions"].update(result.pop("versions"))
            if settings.curve:
                result["curve"] = _compare_curves(case, settings.curve, folder / case.name, data)
            if settings.memory:
                ours = next(plan for plan in contenders if plan.name == "ours")
                result["memory"] = _record_memory(case, ours, settings, folder / case.name, data)
            results["cases"].append(result)
            yield results


@contextmanager
def _sigterm_as_interrupt():
    """Let SIGTERM end the benchmark as Ctrl-C does, so that its processes end and its folder is removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def find_torch(python: str | None) -> str | None:
    """Return a Python interpreter in which torch is installed.

    Args:
        python: the interpreter; None: this one.

    Returns:
        The interpreter; None if torch is not installed in this one.

    Raises:
        SlimError: `python` cannot be run or does not have torch.
    """
    try:
        found = subprocess.run([python or sys.executable, "-c", TORCH_PROBE], capture_output=True).returncode == 0
    except OSError as error:
        raise SlimError(f"--torch-python {python}: cannot be run ({error.strerror})") from error
    if python and not found:
        raise SlimError(f"--torch-python {python}: torch is not installed there")
    return (python or sys.executable) if found else None


def generate_lines(folder: Path, count: int) -> Path:
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


def generate_pages(folder: Path, count: int) -> Path:
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
    """Run the rounds of a case and return its contenders' results, with parameters and versions."""
    rounds: list[dict[str, dict[str, Any]]] = []
    found: dict[str, str] = {}
    parameters = 0
    total = (settings.rounds + 1) * len(contenders)
    with ExitStack() as stack, progress_bar(total=total, desc=case.name, unit="turn") as bar:
        running = []
        for number, plan in enumerate(contenders):
            bar.set_postfix_str(f"{plan.name}: warm-up")
            if running:
                require_memory(case, plan, running[0].memory("VmHWM"))
            shared = folder if plan.torch or (plan.name == STOCK and torch_python) else None
            contender = stack.enter_context(Contender(plan, case, folder / str(number), data, shared))
            hello = contender.start(torch_python if plan.torch else sys.executable)
            parameters = parameters or hello["parameters"]
            if hello["parameters"] != parameters:
                raise SlimError(f"{case.name}: {plan.name} has {hello['parameters']} parameters, stock {parameters}")
            found.update({"torch": hello["torch"]} if "torch" in hello else {})
            contender.train(settings.warm_up)
            running.append(contender)
            bar.update()
        for number in range(settings.rounds):
            turns = {}
            for contender in running:
                bar.set_postfix_str(f"round {number + 1} of {settings.rounds}, {contender.plan.name}")
                turns[contender.plan.name] = contender.train(settings.steps, SETTLE)
                bar.update()
            rounds.append(turns)
        peaks = {contender.plan.name: contender.memory("VmHWM") for contender in running}
    return {"parameters": parameters, "versions": found, "contenders": summarize(contenders, rounds, peaks)}


def require_memory(case: Case, plan: ContenderPlan, stock: float) -> None:
    """Check that a contender fits into the free memory: the system might kill any process otherwise.

    Args:
        case: the case.
        plan: the contender.
        stock: peak memory of stock in megabytes.

    Raises:
        SlimError: there is not enough free memory.
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
    """Summarize the rounds of each contender.

    Args:
        contenders: the contenders.
        rounds: for each round name -> turn, as of `Contender.train`.
        peaks: name -> peak memory in megabytes.

    Returns:
        A record of each contender: images_per_s is the median of the rounds; ratio is the median of the rounds' own
        ratios to stock, which a disturbance of a whole round does not change; waiting_share is that of all rounds, None
        if it is unknown.
    """
    speeds = {p.name: [turns[p.name]["images"] / turns[p.name]["seconds"] for turns in rounds] for p in contenders}
    found = []
    for plan in contenders:
        seconds = sum(turns[plan.name]["seconds"] for turns in rounds)
        waits = [turns[plan.name]["waited"] for turns in rounds]
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


def _compare_curves(case: Case, steps: int, folder: Path, data: Path) -> dict[str, Any]:
    """Return the losses of the same steps with Paddle's kernels and with this project's, and their differences."""
    losses: list[list[float]] = []
    for name, fast in ((STOCK, False), ("fast", True)):
        place = folder / f"curve_{name}"
        plan = ContenderPlan(name, 1, case.batch, fast)
        # One step more than are run: the last step of a training is evaluated and saved.
        with Contender(plan, case, place, data, steps=steps + 1, log_every_steps=1) as contender:
            contender.start()
            for _ in progress_bar(range(steps), desc=f"{case.name}, curve of {name}", unit="step"):
                contender.train(1)
        losses.append([record["loss"] for record in read_log(place / "run")][:steps])
    return {"steps": steps, STOCK: losses[0], "fast": losses[1], **curve_differences(*losses)}


def curve_differences(a: Sequence[float], b: Sequence[float]) -> dict[str, float]:
    """Return the largest difference of two curves and the one at their end."""
    differences = [abs(x - y) for x, y in zip(a, b)]
    return {"largest_difference": max(differences), "final_difference": differences[-1]}


def _record_memory(
    case: Case, plan: ContenderPlan, settings: TrainingSpeedSettings, folder: Path, data: Path
) -> dict[str, Any]:
    """Return the resident memory of this project's training: [step, megabytes of all processes], ..."""
    resident: list[tuple[int, float]] = []
    with Contender(plan, case, folder / "memory", data, trim=False) as contender:
        contender.start()
        with progress_bar(total=settings.memory, desc=f"{case.name}, memory", unit="step") as bar:
            for done in range(0, settings.memory, MEMORY_EVERY):
                steps = min(MEMORY_EVERY, settings.memory - done)
                contender.train(steps)
                resident.append((done + steps, contender.memory("VmRSS")))
                bar.update(steps)
    return {"steps": settings.memory, "resident_mb": resident}
