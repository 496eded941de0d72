"""What DB's maps cost (Liao et al. 2020, arXiv:1911.08947, section 3.5)."""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional

FEWEST = 0.01  # share of a textless batch's pixels that count, the hardest: else nothing would be learnt from it


class DBLoss(nn.Layer):
    """alpha * cross-entropy of the probability map + Dice loss of the binary map + beta * L1 of the threshold map.

    Args:
        alpha: 5 as in PP-OCR; the paper weights the maps 1 (probability), 1 (binary), 10 (threshold).
        beta: the paper's 10.
        negatives: at most so many pixels without text count for one with text, those that cost most.
    """

    def __init__(self, alpha: float = 5.0, beta: float = 10.0, negatives: float = 3.0):
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.negatives = negatives

    def forward(
        self,
        outputs: paddle.Tensor,
        shrink: paddle.Tensor,
        shrink_mask: paddle.Tensor,
        threshold: paddle.Tensor,
        threshold_mask: paddle.Tensor,
    ) -> dict[str, paddle.Tensor]:
        """Outputs [N, 3, H, W] of `DB` in training and the targets of `data.maps`, [N, H, W] float32 each -> the three
        weighted terms, scalars: {"probability", "binary", "threshold"}. Finite whatever the page holds, all of it
        masked or without text.
        """
        probability, learned, binary = outputs.unbind(axis=1)
        return {
            "probability": self.alpha * self.cross_entropy(probability, shrink, shrink_mask),
            "binary": dice(binary, shrink, shrink_mask),
            "threshold": self.beta * mean_within((learned - threshold).abs(), threshold_mask),
        }

    def cross_entropy(self, probability: paddle.Tensor, shrink: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
        """Mean over the batch's pixels with text and the hardest of those without (Shrivastava et al. 2016,
        arXiv:1604.03540): [N, H, W] each -> scalar.
        """
        losses = functional.binary_cross_entropy(probability, shrink, reduction="none")
        text, paper = shrink * mask, (1 - shrink) * mask
        positives = int(text.sum())
        wanted = int(self.negatives * positives) if positives else int(FEWEST * losses.size) + 1
        count = min(int(paper.sum()), wanted)
        total = (losses * text).sum()
        if count:
            total = total + (losses * paper).flatten().topk(count, sorted=False)[0].sum()
        return total / max(positives + count, 1)


def dice(binary: paddle.Tensor, shrink: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """1 - 2 |A and B| / (|A| + |B|) over the batch (Milletari et al. 2016, arXiv:1606.04797): [N, H, W] each -> scalar.

    One pixel is added to both, so that a batch without text asks for an empty map, too.
    """
    binary = binary * mask
    common = (binary * shrink).sum()
    return 1 - (2 * common + 1) / (binary.sum() + (shrink * mask).sum() + 1)


def mean_within(values: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """Mean of the values where the mask is 1, 0 where it nowhere is: [N, H, W] each -> scalar."""
    return (values * mask).sum() / mask.sum().clip(min=1)
