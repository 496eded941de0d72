"""The networks: shapes, size, gradients, and errors for wrong arguments."""

from __future__ import annotations

import copy

import numpy as np
import paddle
import pytest
from paddle import nn

from ppocr_slim.errors import SlimError
from ppocr_slim.models import MODELS, build_model
from ppocr_slim.models.cost import measure_cost, parameter_count
from ppocr_slim.models.db import db_mv3_slim
from ppocr_slim.models.mobilenet_v3 import MobileNetV3
from ppocr_slim.models.transforms import apply_transforms, fold
from ppocr_slim.runtime.preprocess import time_steps_for_width

CLASSES = 143


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("se", [False, True])
@pytest.mark.parametrize("backbone", ["small", "large"])
def test_every_parameter_gets_a_gradient(name, backbone, se):
    """Lost otherwise: a layer that is built but not used would be saved, shipped and never trained."""
    paddle.seed(1)  # a gate of few channels can be shut by chance
    size = {"rec": {"height": 32}, "det": {"channels": 16}, "cls": {"height": 32, "width": 64}}[MODELS[name].task]
    model = build_model(name, {"backbone": backbone, "se": se, "scale": 0.35, **size}, CLASSES)
    outputs = model(paddle.randn([2, 3, 32, 64]))
    (outputs * paddle.randn(outputs.shape)).sum().backward()
    learned = [(n, p) for n, p in model.named_parameters() if p.trainable]
    without = [n for n, p in learned if p.grad is None or not bool((p.grad != 0).any())]
    assert without == []


NECKS = [
    {"kind": "lstm", "hidden": 16},
    {"kind": "conv", "channels": 16, "depth": 2, "kernel": 5},
    {"kind": "conv", "channels": 16, "depth": 1, "kernel": 5, "branches": True},
    {"kind": "conv_attention", "channels": 16, "depth": 1, "kernel": 3, "heads": 2},
]


@pytest.mark.parametrize("neck", NECKS, ids=str)
def test_every_neck_keeps_the_time_steps_and_is_trained(neck):
    """Lost otherwise: labels would be aligned with other columns than those that were read."""
    paddle.seed(1)
    model = build_model("crnn_mv3_slim", {"height": 32, "scale": 0.35, "neck": neck}, CLASSES)
    for width in (8, 61, 64):
        outputs = model.outputs(paddle.randn([2, 3, 32, width]))
        assert outputs["logits"].shape == [2, time_steps_for_width(width), CLASSES]
        assert outputs["encoded"].shape[:2] == outputs["features"].shape[:2] == outputs["logits"].shape[:2]
    (outputs["logits"] * paddle.randn(outputs["logits"].shape)).sum().backward()
    assert [n for n, p in model.named_parameters() if p.trainable and (p.grad is None or not (p.grad != 0).any())] == []


def test_folded_branches_compute_the_same_in_evaluation_and_training():
    """Lost otherwise: what ships would read otherwise than what was trained, or break when it is trained further."""
    paddle.seed(2)
    neck = {"kind": "conv", "channels": 12, "depth": 2, "kernel": 5, "branches": True}
    model = build_model("crnn_mv3_slim", {"height": 32, "scale": 0.35, "dropout": 0.0, "neck": neck}, 9)
    for layer in model.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            for tensor in (layer.weight, layer.bias):
                tensor.set_value(paddle.uniform(tensor.shape, min=0.3, max=1.5))
    image = paddle.randn([4, 3, 32, 120])
    for _ in range(100):  # the statistics find their places
        model(image)
    small = copy.deepcopy(model)
    transforms = fold(small)
    assert transforms == [
        {"name": "fold_branches", "layers": ["encoder.blocks.0.depthwise", "encoder.blocks.1.depthwise"]}
    ]
    for mode, tolerance in (("eval", 1e-4), ("train", 1e-2)):  # training takes the statistics of the batch
        getattr(model, mode)()
        getattr(small, mode)()
        np.testing.assert_allclose(small(image).numpy(), model(image).numpy(), atol=tolerance)
    rebuilt = build_model("crnn_mv3_slim", {"height": 32, "scale": 0.35, "neck": neck}, 9)
    apply_transforms(rebuilt, transforms, "card")
    shapes = [{name: tensor.shape for name, tensor in one.state_dict().items()} for one in (rebuilt, small)]
    assert shapes[0] == shapes[1] and fold(small) == []


def test_an_lstm_is_the_same_network_in_either_notation():
    """Lost otherwise: the checkpoints and bundles from before there were other necks could not be opened."""
    args = {"height": 32, "scale": 0.35}
    shapes = [
        {
            name: list(tensor.shape)
            for name, tensor in build_model("crnn_mv3_slim", {**args, **more}, 9).state_dict().items()
        }
        for more in ({"hidden": 24}, {"neck": {"kind": "lstm", "hidden": 24}}, {"hidden": 24, "neck": {"kind": "lstm"}})
    ]
    assert shapes[0] == shapes[1] == shapes[2] and shapes[0]["head.weight"] == [48, 9]


@pytest.mark.parametrize("backbone", ["small", "large"])
def test_the_detector_gives_maps_of_the_pages_size_and_trains_every_parameter(backbone):
    """Lost otherwise: boxes would be found in the wrong place, or a layer would be shipped that was never trained."""
    model = db_mv3_slim(backbone)
    maps = model(paddle.randn([2, 3, 64, 96]))
    assert maps.shape == [2, 3, 64, 96]
    probability, threshold, binary = maps[:, 0], maps[:, 1], maps[:, 2]
    assert float((binary - 1 / (1 + (-50 * (probability - threshold)).exp())).abs().max()) < 1e-5
    (maps * paddle.randn(maps.shape)).sum().backward()
    learned = [(n, p) for n, p in model.named_parameters() if p.trainable]
    without = [n for n, p in learned if p.grad is None or not bool((p.grad != 0).any())]
    assert without == []
    model.eval()
    probability = model(paddle.randn([1, 3, 32, 64]))
    assert probability.shape == [1, 1, 32, 64]
    assert 0 <= float(probability.min()) and float(probability.max()) <= 1


def test_the_detector_is_slim():
    """Lost otherwise: its bundle could not get under 1.4 MB by cutting and rounding its weights."""
    assert parameter_count(db_mv3_slim()) <= 520_000


@pytest.mark.parametrize("size", ["small", "large"])
def test_the_trunks_maps_halve_and_end_with_its_output(size):
    """Lost otherwise: a detector would join maps of other sizes than it takes them for."""
    trunk = MobileNetV3(size, 0.35, strides=((2, 2),) * 5)
    trunk.eval()
    image = paddle.randn([1, 3, 64, 96])
    maps = trunk.maps(image)
    assert [x.shape[1] for x in maps] == trunk.map_channels
    assert [x.shape[2:] for x in maps[-4:]] == [[16, 24], [8, 12], [4, 6], [2, 3]]
    assert bool((maps[-1] == trunk(image)).all())


@pytest.mark.parametrize("height", [32, 33, 40, 48, 64])
@pytest.mark.parametrize("width", [1, 30, 33, 100])
def test_heights_and_widths(height, width):
    """Lost otherwise: some lines would crash the recognizer, or have other steps than the length check counts on."""
    model = build_model("crnn_mv3_slim", {"height": height, "scale": 0.35, "hidden": 16}, CLASSES)
    model.eval()
    assert model(paddle.zeros([1, 3, height, width])).shape == [1, time_steps_for_width(width), CLASSES]


@pytest.mark.parametrize(("height", "feature_height"), [(32, 2), (40, 3), (50, 4)])
def test_without_the_last_halving_the_features_have_twice_the_height(height, feature_height):
    """Lost otherwise: the finer network would cost twice as much there and see no more, or refuse some heights."""
    fine = build_model("crnn_mv3_slim", {"scale": 0.35, "height": height, "height_stride": 16}, classes=5)
    fine.eval()
    assert fine.collapse[0].weight.shape[2] == feature_height
    assert fine(paddle.zeros([1, 3, height, 97])).shape == [1, time_steps_for_width(97), 5]


def test_the_slim_recognizer_is_slim_and_has_steps_for_seventy_characters():
    """Lost otherwise: the model that ships would outgrow its promise, or long addresses could not be read at all."""
    model = build_model("crnn_mv3_slim", {}, CLASSES)
    assert parameter_count(model) <= 1_600_000
    assert time_steps_for_width(13 * model.height) >= 70  # address lines are at least 13 times as wide as high


def test_the_cost_of_a_small_network_by_hand():
    """Lost otherwise: the cost printed at start would be wrong; Paddle's own counter forgets the LSTM."""

    class Tiny(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.conv = paddle.nn.Conv2D(3, 4, 3, padding=1)
            self.lstm = paddle.nn.LSTM(4, 5, direction="bidirect")
            self.head = paddle.nn.Linear(10, 7)

        def forward(self, x):
            steps = self.conv(x).mean(axis=2).transpose([0, 2, 1])
            return self.head(self.lstm(steps)[0])

    convolution = 4 * 2 * 6 * (3 * 3 * 3)
    lstm = 6 * 2 * (4 * 5 * (4 + 5))
    cost = measure_cost(Tiny(), [1, 3, 2, 6])
    assert cost.flops == convolution + lstm + 6 * 7 * 10
    assert cost.activation_bytes == 4 * (4 * 2 * 6 + 6 * 10 + 6 * 7)
    assert cost.parameters == (4 * 27 + 4) + 2 * (20 * 4 + 20 * 5 + 20 + 20) + (10 * 7 + 7)


@pytest.mark.parametrize(
    "name, args, words",
    [
        ("crnn_mv3_slin", {}, ["crnn_mv3_slin", "did you mean crnn_mv3_slim"]),
        ("crnn_mv3_slim", {"hieght": 32}, ["Architecture.args.hieght", "did you mean height"]),
        ("crnn_mv3_slim", {"height": 16}, ["16", "32 to 64"]),
        ("crnn_mv3_slim", {"height": 65}, ["Architecture.args.height", "65", "32 to 64"]),
        ("crnn_mv3_slim", {"backbone": "medium"}, ["Architecture.args.backbone", "medium", "large", "small"]),
        ("crnn_mv3_slim", {"scale": -1.0}, ["Architecture.args.scale", "-1.0", "more than 0"]),
        ("crnn_mv3_slim", {"hidden": 0}, ["Architecture.args.hidden", "1 or more"]),
        ("crnn_mv3_slim", {"layers": 0}, ["Architecture.args.layers", "1 or more"]),
        ("crnn_teacher", {"dropout": 1.0}, ["Architecture.args.dropout", "less than 1"]),
        ("crnn_teacher", {"dropout": -0.1}, ["Architecture.args.dropout", "0 or more"]),
        ("crnn_mv3_slim", {"neck": "conv"}, ["Architecture.args.neck", "'conv'", "kind"]),
        ("crnn_mv3_slim", {"neck": {"channels": 8}}, ["Architecture.args.neck", "kind", "lstm", "conv"]),
        ("crnn_mv3_slim", {"neck": {"kind": "cnov"}}, ["Architecture.args.neck", "cnov", "conv"]),
        ("crnn_mv3_slim", {"neck": {"kind": "conv", "kernel": 4}}, ["Architecture.args.neck.kernel", "4", "odd"]),
        ("crnn_mv3_slim", {"neck": {"kind": "conv", "hidden": 4}}, ["Architecture.args.neck.hidden", "neck conv"]),
        ("crnn_mv3_slim", {"neck": {"kind": "conv"}, "hidden": 4}, ["Architecture.args.hidden", "lstm", "take it out"]),
        (
            "crnn_mv3_slim",
            {"neck": {"kind": "conv_attention", "channels": 20, "heads": 3}},
            ["Architecture.args.neck.channels", "20", "3 heads"],
        ),
        ("crnn_mv3_slim", {"hidden": "many"}, ["Architecture.args.hidden", "many"]),
        ("crnn_mv3_slim", {"se": 1}, ["Architecture.args.se"]),
    ],
)
def test_wrong_names_and_arguments(name, args, words):
    """Lost otherwise: a typo in a config would surface as a stack trace, or as a silently different network."""
    with pytest.raises(SlimError) as error:
        build_model(name, args, CLASSES)
    for word in words:
        assert word in str(error.value)
