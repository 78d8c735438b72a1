"""The exponential moving average of weights."""

from __future__ import annotations

import numpy as np
import torch

from fcnseg.training.optimizer import ema_update


def test_the_averaged_weights_forget_the_start() -> None:
    average, steps = [torch.zeros(3)], 0
    for steps in range(200):
        ema_update(0.99)(average, [torch.ones(3)], steps)
    assert float(average[0].min()) > 0.99
    assert np.isfinite(steps)
