"""A worker of the end-to-end benchmark: an OCR engine in a process of its own, which answers requests over pipes.

It runs as `PYTHON -I page_worker.py SPEC` in any interpreter in which the engine is installed, and imports this project
only for this project's own engine. SPEC is JSON: {"engine": one of ENGINES, "threads": n} and the engine's own keys.
Each input line is a request and each output line the answer to it, both JSON:

    (at the start)               -> {"versions": {...}, "sizes": {file: bytes}}
    {"page": path, "repeats": n} -> {"stages": {"det", "cls", "rec", "total": ms, a list each}, "lines": [[quad, text]],
                                     "peak_mb": so far}
    {"boxes": path}              -> {"boxes": [quad, ...]}, of the detector
    {"crops": [path, ...]}       -> {"texts": [...], "upside_down": [probability, ...]}

The answer {"error": reason} reports a failed request. Decoding of image files is not timed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path


class Timed:
    """A wrapper of a callable that adds up the milliseconds of its calls in `ms`."""

    def __init__(self, inner):
        self.inner, self.ms = inner, 0.0

    def __call__(self, *arguments, **options):
        began = time.perf_counter()
        try:
            return self.inner(*arguments, **options)
        finally:
            self.ms += 1000 * (time.perf_counter() - began)

    def __getattr__(self, name):
        return getattr(self.inner, name)


class SlimEngine:
    """This project's runtime; its spec has {"root", "det", "cls", "rec": folders, "precision"}."""

    packages = ("onnxruntime", "numpy")

    def __init__(self, spec):
        sys.path.insert(0, spec["root"])
        import cv2

        from ppocr_slim.runtime.bundle import read_bundle
        from ppocr_slim.runtime.images import load_image
        from ppocr_slim.runtime.pipeline import Pipeline

        folders = {task: spec[task] for task in ("det", "cls", "rec")}
        cv2.setNumThreads(spec["threads"])
        self.load = load_image
        self.pipeline = Pipeline.from_bundles(**folders, threads=spec["threads"], precision=spec["precision"])
        self.sizes = {f"{task}/{f}": n for task in folders for f, n in read_bundle(folders[task]).sizes.items()}

    def read(self, image):
        page = self.pipeline.read(image)
        dropped = [[line.box, ""] for line in page.dropped]  # detected, but without a text that is returned
        return page.ms, [[line.box, line.text] for line in page.lines] + dropped

    def boxes(self, image):
        return [box.points.tolist() for box in self.pipeline.detector.detect(image)]

    def crops(self, images):
        directions = self.pipeline.direction.classify(images)
        upside_down = [found.score if found.angle else 1 - found.score for found in directions]
        return [line.text for line in self.pipeline.recognizer.read(images, 1)], upside_down


class RapidOCREngine:
    """RapidOCR (rapidocr_onnxruntime 1.4); its spec has {"options": arguments of its class} besides the defaults."""

    packages = ("rapidocr_onnxruntime", "onnxruntime", "numpy")

    def __init__(self, spec):
        import cv2
        import rapidocr_onnxruntime

        cv2.setNumThreads(spec["threads"])
        self.load = cv2.imread
        options = {"intra_op_num_threads": spec["threads"], "inter_op_num_threads": 1, **spec.get("options", {})}
        self.engine = rapidocr_onnxruntime.RapidOCR(**options)
        folder = Path(rapidocr_onnxruntime.__file__).parent / "models"
        own = [Path(options[f"{task}_model_path"]) for task in ("det", "cls", "rec") if f"{task}_model_path" in options]
        files = {f"{file.parent.name}/{file.name}": file for file in own or sorted(folder.glob("*.onnx"))}
        self.sizes = {name: file.stat().st_size for name, file in files.items()}
        self.stages = {"det": "text_det", "cls": "text_cls", "rec": "text_rec"}
        for name in self.stages.values():
            setattr(self.engine, name, Timed(getattr(self.engine, name)))

    def read(self, image):
        for name in self.stages.values():
            getattr(self.engine, name).ms = 0.0
        whole = Timed(self.engine)
        found, _ = whole(image)
        ms = {stage: getattr(self.engine, name).ms for stage, name in self.stages.items()}
        return {**ms, "total": whole.ms}, [[quad, text] for quad, text, _ in found or []]

    def boxes(self, image):
        found, _ = self.engine.text_det(image)
        return [] if found is None else [quad.tolist() for quad in found]

    def crops(self, images):
        _, directions, _ = self.engine.text_cls(images)
        texts = [self.engine.text_rec([image])[0][0][0] for image in images]
        return texts, upside_down_probabilities(directions)


class RapidOCR3Engine:
    """RapidOCR 3 (rapidocr) with the networks of its wheel: PP-OCRv6 small in 3.10."""

    packages = ("rapidocr", "onnxruntime", "numpy")

    def __init__(self, spec):
        import cv2
        import rapidocr

        cv2.setNumThreads(spec["threads"])
        self.load = cv2.imread
        threads = {"intra_op_num_threads": spec["threads"], "inter_op_num_threads": 1}
        params = {f"EngineConfig.onnxruntime.{name}": value for name, value in threads.items()}
        self.engine = rapidocr.RapidOCR(params={"Global.log_level": "error", **params})
        files = sorted((Path(rapidocr.__file__).parent / "models").glob("*.onnx"))
        self.sizes = {f"{file.parent.name}/{file.name}": file.stat().st_size for file in files}
        self.stages = {"det": "text_det", "cls": "text_cls", "rec": "text_rec"}
        for stage, name in self.stages.items():  # it opens each network when it is needed
            getattr(self.engine, f"_load_{stage}_model")()
            setattr(self.engine, name, Timed(getattr(self.engine, name)))

    def read(self, image):
        for name in self.stages.values():
            getattr(self.engine, name).ms = 0.0
        whole = Timed(self.engine)
        found = whole(image)
        ms = {stage: getattr(self.engine, name).ms for stage, name in self.stages.items()}
        lines = [] if found.boxes is None else zip(found.boxes, found.txts)
        return {**ms, "total": whole.ms}, [[quad.tolist(), text] for quad, text in lines]

    def boxes(self, image):
        found = self.engine.text_det(image).boxes
        return [] if found is None else [quad.tolist() for quad in found]

    def crops(self, images):
        from rapidocr.ch_ppocr_rec import TextRecInput

        directions = self.engine.text_cls(images).cls_res
        texts = [self.engine.text_rec(TextRecInput(img=[image])).txts[0] for image in images]
        return texts, upside_down_probabilities(directions)


class PaddleOCREngine:
    """The predictors of PaddleOCR 2.x; their spec has {"options": arguments of the command line}."""

    packages = ("paddleocr", "paddlepaddle", "numpy")
    sizes: dict = {}

    def __init__(self, spec):
        import importlib.util

        import cv2

        sys.path.insert(0, os.path.dirname(importlib.util.find_spec("paddleocr").origin))
        from tools.infer import predict_cls, predict_det, predict_rec, utility

        arguments = utility.init_args().parse_args([])
        options = {"use_gpu": False, "cpu_threads": spec["threads"], "show_log": False, **spec["options"]}
        for name, value in options.items():
            setattr(arguments, name, value)
        self.load = cv2.imread
        self.detector = predict_det.TextDetector(arguments)
        self.classifier = predict_cls.TextClassifier(arguments)
        self.recognizer = predict_rec.TextRecognizer(arguments)

    def read(self, image):
        raise NotImplementedError("whole pages are not compared with PaddleOCR")

    def boxes(self, image):
        return [quad.tolist() for quad in self.detector(image)[0]]

    def crops(self, images):
        _, directions, _ = self.classifier(images)
        return [self.recognizer([image])[0][0][0] for image in images], upside_down_probabilities(directions)


ENGINES = {
    "ppocr_slim": SlimEngine,
    "rapidocr": RapidOCREngine,
    "rapidocr3": RapidOCR3Engine,
    "paddleocr": PaddleOCREngine,
}


def upside_down_probabilities(directions):
    """Return the probability of "180" for each (label, score) of RapidOCR's or PaddleOCR's classifier."""
    return [float(score) if label == "180" else 1 - float(score) for label, score in directions]


def peak_mb():
    """Return the peak memory of this process in MB of 10^6 bytes; 0 where the system does not report it.

    `getrusage` does not serve: there a process starts with the peak of its parent.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except (OSError, StopIteration):
        return 0.0


def answer(engine, request):
    """Return the answer to a request; see the module's docstring."""
    if "page" in request:
        image, times = engine.load(request["page"]), []
        for _ in range(request["repeats"]):
            ms, lines = engine.read(image)
            times.append(ms)
        stages = {stage: [ms[stage] for ms in times] for stage in times[0]}
        lines = [[[[float(x), float(y)] for x, y in quad], text] for quad, text in lines]
        return {"stages": stages, "lines": lines, "peak_mb": peak_mb()}
    if "boxes" in request:
        return {"boxes": engine.boxes(engine.load(request["boxes"]))}
    texts, upside_down = engine.crops([engine.load(path) for path in request["crops"]])
    return {"texts": texts, "upside_down": upside_down}


def main():
    """Answer the requests from standard input until it ends."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what engines print must not get between the answers

    def send(record):
        pipe.write(json.dumps(record) + "\n")
        pipe.flush()

    spec = json.loads(sys.argv[1])
    try:
        engine = ENGINES[spec["engine"]](spec)
        send({"versions": {name: metadata.version(name) for name in engine.packages}, "sizes": engine.sizes})
    except Exception as error:  # the benchmark reports whatever the engine raises
        send({"error": f"{type(error).__name__}: {error}"})
        return
    for line in sys.stdin:
        try:
            send(answer(engine, json.loads(line)))
        except Exception as error:
            send({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
