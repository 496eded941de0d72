"""Networks rebuilt with other widths: every kind of layer, and errors for widths that cannot be."""

from __future__ import annotations

import paddle
import pytest
from paddle import nn

from ppocr_slim.errors import SlimError
from ppocr_slim.models import build_model
from ppocr_slim.models.state import model_state
from ppocr_slim.models.transforms import apply_transforms
from ppocr_slim.models.widths import resize, widths_of
from ppocr_slim.tasks.checkpoint import load_weights

ARGS = {"height": 32, "scale": 0.35, "hidden": 16, "se": True, "hard_swish": True}
NARROW = {
    "backbone.blocks.1.expand.0": [8, 16],
    "backbone.blocks.1.expand.1": [16],
    "backbone.blocks.1.depthwise.0": [16, 16],
    "backbone.blocks.1.depthwise.1": [16],
    "backbone.blocks.1.project.0": [16, 8],
    "encoder": [192, 8],
    "head": [16, 9],
}


def plain() -> nn.Layer:
    return build_model("crnn_mv3_slim", ARGS, 9)


def test_a_narrow_network_is_rebuilt_and_runs():
    """Lost otherwise: a pruned checkpoint could not be loaded, or would be with random weights and a warning."""
    model = plain()
    before = widths_of(model)
    wider = before["backbone.blocks.1.expand.0"]
    assert wider[1] > 16 and before["encoder"] == [192, 16]
    model.eval()
    apply_transforms(model, [{"name": "widths", "layers": NARROW}], "here")
    assert widths_of(model) == {**before, **NARROW}
    assert model(paddle.zeros([1, 3, 32, 64])).shape == [1, 16, 9]
    convolution = model.backbone.blocks[1].depthwise[0]
    assert (convolution._groups, convolution._in_channels, convolution._out_channels) == (16, 16, 16)
    assert not convolution.training  # the mode stays
    assert all(tensor.name == name for name, tensor in model_state(model).items())
    narrow = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    with pytest.raises(SlimError, match="do not fit"):
        load_weights(plain(), narrow, "here")


@pytest.mark.parametrize(
    "layers",
    [
        {"backbone.blocks.99.expand.0": [8, 16]},  # no such layer
        {"backbone": [8, 16]},  # no widths
        {"head": [16]},
        {"head": [16, 0]},
        {"head": [16, 2.5]},
        {"head": "16"},
        {"backbone.blocks.1.depthwise.0": [16, 32]},
        ["head"],
    ],
)
def test_widths_that_cannot_be_are_one_clear_error(layers):
    """Lost otherwise: a damaged checkpoint would surface as a stack trace from the middle of Paddle."""
    with pytest.raises(SlimError, match="here: transforms.0 cannot be applied"):
        apply_transforms(plain(), [{"name": "widths", "layers": layers}], "here")


def test_what_a_layer_was_built_with_stays():
    """Lost otherwise: a pruned network would run with other strides, paddings or batch-norm constants."""

    class Layers(nn.Layer):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.conv = nn.Conv2D(inputs, outputs, (3, 1), (2, 1), (1, 0), dilation=(2, 1), bias_attr=False)
            self.norm = nn.BatchNorm2D(outputs, momentum=0.7, epsilon=1e-3)
            self.lstm = nn.LSTM(outputs, 6, 3, time_major=True)
            self.head = nn.Linear(6, 5, bias_attr=False)

        def forward(self, x):
            return self.head(self.lstm(self.norm(self.conv(x)).mean(axis=2).transpose([2, 0, 1]))[0])

    layers, direct = Layers(4, 8), Layers(3, 7)
    resize(layers, {"conv": [3, 7], "norm": [7], "lstm": [7, 6]})
    layers.set_state_dict(direct.state_dict())
    x = paddle.randn([2, 3, 9, 5])
    assert layers(x).shape == direct(x).shape == [5, 2, 5]
    for mode in ("train", "eval"):
        getattr(layers, mode)()
        getattr(direct, mode)()
        assert bool((layers(x) == direct(x)).all())
    assert bool((layers.norm._variance == direct.norm._variance).all())
