"""The recipe that takes channels out of a trunk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from prune import AT_A_TIME, prune, worthy

from featherpose.nn.feather import Feather


def test_inputs_that_the_others_replace_go_first_and_the_rest_is_the_best_fit() -> None:
    torch.manual_seed(0)
    useful = torch.randn(4000, 40)
    copies = useful[:, :AT_A_TIME] @ torch.randn(AT_A_TIME, AT_A_TIME)
    inputs = torch.cat([useful, copies], 1)
    outputs = inputs @ torch.randn(56, 5) + 3
    kept, weights, biases = worthy(inputs, outputs, loss=1e-4)
    assert len(kept) == 40
    torch.testing.assert_close(inputs[:, kept] @ weights.T + biases, outputs, atol=0.02, rtol=0.01)
    # Where something is lost, no other weights lose less.
    kept, weights, biases = worthy(useful, outputs, loss=0.95)
    assert len(kept) == 40 - AT_A_TIME
    exact = np.linalg.lstsq(np.c_[useful[:, kept], np.ones(4000)], outputs.numpy(), rcond=None)[0]
    np.testing.assert_allclose(np.c_[weights, biases], exact.T, atol=0.02)


@pytest.mark.slow
def test_a_network_loses_its_dead_channels_and_nothing_else() -> None:
    torch.manual_seed(1)
    network = Feather(channels=8, blocks=1).eval()
    with torch.no_grad():
        for name in ("front.block", "tail.stages.3.1"):
            for layer in ("expand", "depthwise"):
                dead = network.get_submodule(f"{name}.{layer}")
                assert isinstance(dead, torch.nn.Conv2d)
                assert dead.bias is not None
                dead.weight[5 : 5 + AT_A_TIME] = 0
                dead.bias[5 : 5 + AT_A_TIME] = -1
        images = [255 * torch.rand(1, 3, 192, 192) for _ in range(6)]
        before = network(images[0])[0]
        smaller = prune(network, images, loss=1e-7)
        after = smaller(images[0])[0]
    options = Feather.options_of(smaller.state_dict())
    assert options["front"].block <= 240 - AT_A_TIME
    assert options["tail"][10] <= 1440 - AT_A_TIME
    torch.testing.assert_close(after.heatmaps, before.heatmaps, atol=2e-3, rtol=0)
