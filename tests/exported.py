"""A small checkpoint whose network is random but lively, for tests that need one and not its quality."""

from __future__ import annotations

from pathlib import Path

import paddle
from drawing import draw_row

from ppocr_slim.data.charset import Charset
from ppocr_slim.models import bind_model, build_model
from ppocr_slim.models.state import model_state
from ppocr_slim.runtime.preprocess import padded_width, resize_to_height, to_batch
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.tasks.checkpoint import ModelCard, save_checkpoint

TEXTS = [
    "Hà Nội",
    "Đà Nẵng",
    "Quận 1 Phường Bến Nghé",
    "Thôn 7",
    "Ấp Mỹ Thạnh",
    "Tp Huế",
    "Số 15/2",
    "Cần Thơ",
]


def save_lively_checkpoint(folder: Path, seed: int = 5, **args) -> Path:
    """Write a checkpoint that reads different nonsense from different rows; gives its folder."""
    paddle.seed(seed)
    charset = Charset.from_texts(TEXTS)
    args = {"height": 32, "scale": 0.35, **(args or {"hidden": 16, "layers": 2})}
    bound = dict(bind_model("crnn_mv3_slim", args).arguments)
    bound.pop("classes")
    model = build_model("crnn_mv3_slim", bound, len(charset.classes))
    model.train()
    rows = [resize_to_height(draw_row(text), 32) for text in TEXTS]
    batches = [paddle.to_tensor(to_batch([row], padded_width(row.shape[1]))) for row in rows]
    for batch in batches * 4:  # batch norm sees rows, so that its statistics are not the ones it was born with
        model(batch)
    model.eval()
    model.head.weight.set_value(model.head.weight * 60)
    with paddle.no_grad():  # no class wins everywhere: each has the mean 0
        steps = paddle.concat([model(batch).flatten(0, 1) for batch in batches])
    model.head.bias.set_value(model.head.bias - steps.mean(axis=0))
    weights = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    card = ModelCard("crnn_mv3_slim", bound, RecSpec(32, charset.classes))
    save_checkpoint(folder, card, weights, {"step": 0}, {"step": 0, "best": None, "best_step": 0})
    return folder
