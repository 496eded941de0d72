"""The PyTorch contender of the training benchmark: the same networks, trained by `python torch_twin.py SPEC`.

Runs in any interpreter that has torch and numpy, and imports nothing of this project: the layers come as a table of
`benchmarks.contender.layer_table`, the batches as a file. Data loading, logging and averaged weights are left out, to
PyTorch's advantage; convolutions are channels_last, its faster layout on a CPU.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

ACTIVATIONS = {"ReLU": nn.ReLU, "Hardswish": nn.Hardswish}
STEEPNESS = 50  # of DB's approximate binary map
LEVELS = 4  # feature maps of the detector


def convolution(inputs, layer, groups=1):
    """Return the convolution, batch norm and activation of one entry of the table."""
    kernel = layer["kernel"]
    layers = [
        nn.Conv2d(
            inputs, layer["outputs"], kernel, layer["stride"], [side // 2 for side in kernel], groups=groups, bias=False
        ),
        nn.BatchNorm2d(layer["outputs"]),
    ]
    if layer["activation"]:
        layers.append(ACTIVATIONS[layer["activation"]]())
    return nn.Sequential(*layers)


class SqueezeExcite(nn.Module):
    def __init__(self, channels, squeezed):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x):
        return x * self.gate(x)


class Block(nn.Module):
    def __init__(self, inputs, table):
        super().__init__()
        expand, depthwise, project = table["parts"]
        expanded = expand["outputs"]
        layers = [convolution(inputs, expand), convolution(expanded, depthwise, groups=expanded)]
        if table["squeezed"]:
            layers.append(SqueezeExcite(expanded, table["squeezed"]))
        self.layers = nn.Sequential(*layers, convolution(expanded, project))
        self.shortcut = table["shortcut"]
        self.halves = max(depthwise["stride"]) > 1
        self.outputs = project["outputs"]

    def forward(self, x):
        y = self.layers(x)
        return x + y if self.shortcut else y


class Trunk(nn.Module):
    def __init__(self, table):
        super().__init__()
        self.stem = convolution(3, table["stem"])
        channels, blocks = table["stem"]["outputs"], []
        for block in table["blocks"]:
            blocks.append(Block(channels, block))
            channels = blocks[-1].outputs
        self.blocks = nn.ModuleList(blocks)
        self.ends = {i for i in range(len(blocks)) if i + 1 == len(blocks) or blocks[i + 1].halves}
        self.map_channels = [blocks[i].outputs for i in sorted(self.ends)]

    def forward(self, x):
        """Return the last feature map of each size."""
        maps = []
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.ends:
                maps.append(x)
        return maps


class TimeBlock(nn.Module):
    def __init__(self, channels, table):
        super().__init__()
        depthwise, expand, project = table
        self.layers = nn.Sequential(
            convolution(channels, depthwise, groups=channels),
            convolution(channels, expand),
            convolution(expand["outputs"], project),
        )

    def forward(self, x):
        return x + self.layers(x)


class Lstm(nn.Module):
    """[N, C, 1, T] -> [N, C', T]."""

    def __init__(self, inputs, table):
        super().__init__()
        self.lstm = nn.LSTM(inputs, table["hidden"], table["layers"], bidirectional=True)
        self.outputs = 2 * table["hidden"]

    def forward(self, x):
        return self.lstm(x.squeeze(2).permute(2, 0, 1))[0].permute(1, 2, 0)


class ConvNeck(nn.Module):
    """[N, C, 1, T] -> [N, C', T]."""

    def __init__(self, inputs, table):
        super().__init__()
        self.outputs = table["reduce"]["outputs"]
        blocks = [TimeBlock(self.outputs, block) for block in table["blocks"]]
        self.layers = nn.Sequential(convolution(inputs, table["reduce"]), *blocks)

    def forward(self, x):
        return self.layers(x).squeeze(2)


class Recognizer(nn.Module):
    """image [N, 3, H, W] -> logits [T, N, K]."""

    def __init__(self, table):
        super().__init__()
        features, neck = table["features"], table["neck"]
        self.trunk = Trunk(table["trunk"])
        self.collapse = nn.Sequential(
            nn.Conv2d(self.trunk.map_channels[-1], features, (table["rows"], 1), bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(),
        )
        self.encoder = (Lstm if "hidden" in neck else ConvNeck)(features, neck)
        self.head = nn.Linear(self.encoder.outputs, table["classes"])
        self.dropout = nn.Dropout1d(table["dropout"])  # one mask for all time steps

    def forward(self, image):
        features = self.collapse(self.trunk(image)[-1])
        encoded = self.encoder(self.dropout(features.squeeze(2)).unsqueeze(2))
        return self.head(self.dropout(encoded).permute(2, 0, 1))


class Detector(nn.Module):
    """image [N, 3, H, W] -> probability, threshold, binary map, each [N, 1, H, W]."""

    def __init__(self, table):
        super().__init__()
        self.trunk = Trunk(table["trunk"])
        channels, inputs = table["channels"], self.trunk.map_channels[-LEVELS:]
        quarter = channels // LEVELS
        self.lateral = nn.ModuleList([nn.Conv2d(n, channels, 1, bias=False) for n in inputs])
        self.smooth = nn.ModuleList([nn.Conv2d(channels, quarter, 3, padding=1, bias=False) for _ in inputs])
        self.probability, self.threshold = self.head(channels), self.head(channels)

    @staticmethod
    def head(channels):
        inner = channels // 4
        return nn.Sequential(
            nn.Conv2d(channels, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.ConvTranspose2d(inner, inner, 2, 2, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.ConvTranspose2d(inner, 1, 2, 2),
            nn.Sigmoid(),
        )

    def forward(self, image):
        joined = [lateral(x) for lateral, x in zip(self.lateral, self.trunk(image)[-LEVELS:])]
        for level in reversed(range(LEVELS - 1)):
            joined[level] = joined[level] + functional.interpolate(joined[level + 1], scale_factor=2)
        smooth = [smooth(x) for smooth, x in zip(self.smooth, joined)]
        smooth = [functional.interpolate(x, scale_factor=2**i) if i else x for i, x in enumerate(smooth)]
        features = torch.cat(smooth[::-1], dim=1)
        probability, threshold = self.probability(features), self.threshold(features)
        return probability, threshold, torch.sigmoid(STEEPNESS * (probability - threshold))


def recognition_loss(model, batch):
    logits = model(batch["image"])
    steps = torch.full((logits.shape[1],), logits.shape[0], dtype=torch.long)
    return functional.ctc_loss(logits.log_softmax(2), batch["labels"].long(), steps, batch["lengths"])


def detection_loss(model, batch, alpha, beta, negatives):
    """Return the DB loss as `tasks.db_loss.DBLoss` computes it: BCE with hard negatives, Dice, L1 within the border."""
    probability, threshold, binary = (maps.squeeze(1) for maps in model(batch["image"]))
    shrink, mask = batch["shrink"], batch["shrink_mask"]
    losses = functional.binary_cross_entropy(probability, shrink, reduction="none")
    text, paper = shrink * mask, (1 - shrink) * mask
    positives = int(text.sum())
    count = min(int(paper.sum()), int(negatives * positives) if positives else int(0.01 * losses.numel()) + 1)
    total = (losses * text).sum() + (losses * paper).flatten().topk(count, sorted=False)[0].sum()
    entropy = total / max(positives + count, 1)
    common, sizes = (binary * mask * shrink).sum(), (binary * mask).sum() + text.sum()
    dice = 1 - (2 * common + 1) / (sizes + 1)
    border = batch["threshold_mask"]
    distance = ((threshold - batch["threshold"]).abs() * border).sum() / border.sum().clip(min=1)
    return alpha * entropy + dice + beta * distance


def read_batches(path):
    """Return the batches of a file of `benchmarks.contender`, whose arrays are named by kind and number."""
    batches = []
    with np.load(path) as arrays:
        for name in arrays.files:
            kind, number = name.rstrip("0123456789"), int(name[len(name.rstrip("0123456789")) :])
            batches += [{} for _ in range(number + 1 - len(batches))]
            batches[number][kind] = torch.from_numpy(arrays[name])
    for batch in batches:
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
    return batches


def main():
    """Train as the benchmark requests, until it ends."""
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    torch.set_num_threads(spec["threads"])
    torch.manual_seed(spec["seed"])
    with open(os.path.join(spec["shared"], "network.json"), encoding="utf-8") as file:
        table = json.load(file)
    batches = read_batches(os.path.join(spec["shared"], "batches.npz"))
    detects = "shrink" in batches[0]
    model = (Detector if detects else Recognizer)(table).to(memory_format=torch.channels_last)
    values = spec["optimizer"]
    kernels = [p for p in model.parameters() if sum(n > 1 for n in p.shape) > 1]
    vectors = [p for p in model.parameters() if sum(n > 1 for n in p.shape) <= 1]
    groups = [{"params": kernels, "weight_decay": values["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=values["lr"])

    connection = socket.socket(socket.AF_UNIX)
    connection.connect(spec["socket"])
    lines = connection.makefile("rw", encoding="utf-8")

    def send(record):
        lines.write(json.dumps(record) + "\n")
        lines.flush()

    send({"rank": 0, "parameters": sum(p.numel() for p in model.parameters()), "torch": torch.__version__})
    done = 0
    for request in lines:
        settle, steps = map(int, request.split())
        for number in range(settle + steps):
            if number == settle:
                since, images = time.monotonic(), 0
            batch = batches[done % len(batches)]
            if detects:
                loss = detection_loss(model, batch, **table["loss"])
            else:
                loss = recognition_loss(model, batch)
            if not np.isfinite(loss.item()):
                raise SystemExit(f"the loss is {loss.item()} at step {done}")
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), values["clip_norm"])
            optimizer.step()
            optimizer.zero_grad()
            done, images = done + 1, images + len(batch["image"])
        seconds = time.monotonic() - since
        if spec["trim"]:
            ctypes.CDLL(None).malloc_trim(0)
        send({"seconds": seconds, "waited": None, "images": images})


if __name__ == "__main__":
    main()
