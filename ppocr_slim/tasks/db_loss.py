"""The DB loss (Liao et al. 2020, arXiv:1911.08947, section 3.5)."""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional

TEXTLESS_FRACTION = 0.01  # of the pixels of a batch without text, the hardest: else nothing would be learnt from it


class DBLoss(nn.Layer):
    """alpha * cross-entropy of the probability map + Dice loss of the binary map + beta * L1 of the threshold map.

    Args:
        alpha: weight of the probability map: 5 as in PP-OCR; the paper has 1.
        beta: weight of the threshold map: 10 as in the paper.
        negatives: how many pixels without text count at most for each with text: those with the largest loss (online
            hard example mining).
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
        """Return the three weighted terms, which are finite even for pages that are masked or have no text.

        Args:
            outputs: of `DB` in training mode, [N, 3, H, W].
            shrink: target of the probability and the binary map, [N, H, W] float32, see `data.maps`.
            shrink_mask: 1 where `shrink` counts, [N, H, W] float32.
            threshold: target of the threshold map, [N, H, W] float32.
            threshold_mask: 1 where `threshold` counts, [N, H, W] float32.

        Returns:
            "probability", "binary" and "threshold", scalars.
        """
        probability, learned, binary = outputs.unbind(axis=1)
        return {
            "probability": self.alpha * self.cross_entropy(probability, shrink, shrink_mask),
            "binary": dice(binary, shrink, shrink_mask),
            "threshold": self.beta * mean_within((learned - threshold).abs(), threshold_mask),
        }

    def cross_entropy(self, probability: paddle.Tensor, shrink: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
        """Return the mean over the pixels with text and the hardest ones without (Shrivastava et al. 2016).

        Online hard example mining, arXiv:1604.03540, over the whole batch.

        Args:
            probability: [N, H, W].
            shrink: target, [N, H, W].
            mask: 1 where the target counts, [N, H, W].
        """
        losses = functional.binary_cross_entropy(probability, shrink, reduction="none")
        text, background = shrink * mask, (1 - shrink) * mask
        positives = int(text.sum())
        wanted = int(self.negatives * positives) if positives else int(TEXTLESS_FRACTION * losses.size) + 1
        count = min(int(background.sum()), wanted)
        total = (losses * text).sum()
        if count:
            total = total + (losses * background).flatten().topk(count, sorted=False)[0].sum()
        return total / max(positives + count, 1)


def dice(binary: paddle.Tensor, shrink: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """Return the Dice loss 1 - 2 |A and B| / (|A| + |B|) over the batch (Milletari et al. 2016, arXiv:1606.04797).

    One pixel is added to both, so that a batch without text is taught an empty map, too.

    Args:
        binary: [N, H, W].
        shrink: target, [N, H, W].
        mask: 1 where the target counts, [N, H, W].
    """
    binary = binary * mask
    common = (binary * shrink).sum()
    return 1 - (2 * common + 1) / (binary.sum() + (shrink * mask).sum() + 1)


def mean_within(values: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """Return the mean of the values [N, H, W] where the mask [N, H, W] is 1; 0 for an empty mask."""
    return (values * mask).sum() / mask.sum().clip(min=1)
