"""Depthwise layers give what an ordinary convolution gives, gradients too, in FP32 and in bf16."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from featherpose.nn.layers.depthwise import DepthwiseConv2d


def _run(layer: nn.Module, image: Tensor, towards: Tensor, *, half: bool) -> list[Tensor]:
    image = image.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        out = layer(image)
    torch.autograd.backward(out.float() if out.dtype is torch.bfloat16 else out, towards)
    gradients = [p.grad for p in layer.parameters()]
    assert image.grad is not None
    return [out, image.grad, *(g for g in gradients if g is not None)]


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (1, 4)])
@pytest.mark.parametrize("size", [(46, 46), (23, 30), (9, 7)])
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=["first", "last"])
def test_outputs_and_gradients(
    stride: int, dilation: int, size: tuple[int, int], half: bool, memory: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = DepthwiseConv2d(32, stride=stride, dilation=dilation, bias=True).train()
    # The slow twin: an ordinary layer in double precision.
    plain = nn.Conv2d(32, 32, 3, stride, dilation, dilation, groups=32).double()
    plain.load_state_dict(layer.state_dict())
    image = torch.randn(4, 32, *size).contiguous(memory_format=memory)
    towards = torch.randn(layer(image).shape)
    found = _run(layer, image, towards, half=half)
    expected = _run(plain, image.double(), towards.double(), half=False)
    for name, ours, truth in zip(("output", "image", "weight", "bias"), found, expected, strict=True):
        error = float((ours.detach().double() - truth.detach()).norm() / truth.detach().norm())
        assert error < (0.01 if half else 1e-5), name


def test_inference_is_an_ordinary_convolution() -> None:
    layer = DepthwiseConv2d(8, dilation=2).eval()
    graph = torch.export.export(layer, (torch.zeros(1, 8, 16, 16),)).graph
    assert [str(node.target) for node in graph.nodes if node.op == "call_function"] == ["aten.conv2d.default"]
