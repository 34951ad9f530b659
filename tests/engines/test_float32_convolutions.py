# SPDX-License-Identifier: Apache-2.0
import copy
import io
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from monai_kd.engines import place_network
from monai_kd.engines.float32_convolutions import keep_convolutions_in_float32


def depthwise(**options):
    torch.manual_seed(0)
    return nn.Conv2d(6, 6, groups=6, padding=2, **options)


def weight_gradient(convolution, images, autocast):
    """The gradient of the weights, and the type that the convolution gave its output in."""
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = convolution(images)
    convolution.zero_grad()
    output.float().square().mean().backward()
    return convolution.weight.grad.clone(), output.dtype


@pytest.mark.parametrize("options", [{"kernel_size": 5}, {"kernel_size": 3, "stride": 2}])
def test_gradients_are_those_of_float32_and_the_output_is_in_bfloat16(options):
    images = torch.rand(2, 6, 20, 20)
    convolution = depthwise(**options)
    expected, _ = weight_gradient(convolution, images, autocast=False)
    rounded, _ = weight_gradient(copy.deepcopy(convolution), images, autocast=True)
    place_network(convolution, "cpu")
    gradient, dtype = weight_gradient(convolution, images, autocast=True)
    assert dtype == torch.bfloat16
    assert (gradient - expected).abs().max() < (rounded - expected).abs().max()
    torch.testing.assert_close(gradient, expected, rtol=0.01, atol=1e-3)  # the output's rounding is left


def inputs_of(convolution):
    """What the convolution itself is given, as a list that grows."""
    given = []
    convolution._conv_forward = lambda images, *rest: (  # what nn.Conv2d calls behind its hooks
        given.append((images.dtype, torch.is_autocast_enabled("cpu"))),
        nn.Conv2d._conv_forward(convolution, images, *rest),
    )[1]
    return given


@pytest.mark.parametrize(
    "convolution, autocast, gradients, expected",
    [
        (depthwise(kernel_size=5), True, True, (torch.float32, False)),
        (depthwise(kernel_size=5), True, False, (torch.bfloat16, True)),  # inference: bfloat16 is as fast
        (depthwise(kernel_size=5), False, True, (torch.bfloat16, False)),
        (depthwise(kernel_size=3), True, True, (torch.bfloat16, True)),
        (nn.Conv2d(6, 6, 5), True, True, (torch.bfloat16, True)),
        (nn.Conv2d(1, 6, 5), True, True, (torch.bfloat16, True)),
    ],
)
def test_only_slow_ones_leave_the_autocast_and_only_to_learn(convolution, autocast, gradients, expected):
    keep_convolutions_in_float32(convolution)
    given = inputs_of(convolution)
    images = torch.rand(1, convolution.in_channels, 9, 9).bfloat16()
    if not autocast:
        convolution.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), torch.set_grad_enabled(gradients):
        convolution(images)
        assert torch.is_autocast_enabled("cpu") is autocast
    assert given == [expected]


def test_the_autocast_is_back_after_a_failure():
    convolution = depthwise(kernel_size=5)
    keep_convolutions_in_float32(convolution)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError, match="channels"):
            convolution(torch.rand(1, 5, 9, 9))
        assert torch.is_autocast_enabled("cpu")
        assert convolution(torch.rand(1, 6, 9, 9)).dtype == torch.bfloat16
    assert convolution(torch.rand(1, 6, 9, 9)).dtype == torch.float32


def test_networks_are_copied_pickled_and_placed_again_with_it():
    network = place_network(nn.Sequential(depthwise(kernel_size=5)), "cpu")
    buffer = io.BytesIO()
    torch.save(network, buffer)
    buffer.seek(0)
    copies = [copy.deepcopy(network), torch.load(buffer, weights_only=False), place_network(network, "cpu")]
    for other in copies:
        assert len(other[0]._forward_pre_hooks) == len(other[0]._forward_hooks) == 1
        given = inputs_of(other[0])
        with torch.autocast("cpu", torch.bfloat16):
            other(torch.rand(1, 6, 9, 9))
        assert given == [(torch.float32, False)]


def test_inputs_by_name_and_weights_in_bfloat16_are_left_alone():
    convolution = depthwise(kernel_size=5)
    keep_convolutions_in_float32(convolution)
    with torch.autocast("cpu", torch.bfloat16):
        assert convolution(input=torch.rand(1, 6, 9, 9)).dtype == torch.bfloat16
        assert convolution.bfloat16()(torch.rand(1, 6, 9, 9)).dtype == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")


SMALL = [
    (nn.Conv3d(4, 4, 3, padding=1), (2, 5, 5), True),
    (nn.Conv3d(4, 4, 3, padding=1), (3, 3, 3), False),
    (nn.Conv3d(4, 4, (1, 3, 3), padding=(0, 1, 1)), (1, 5, 5), False),
    (nn.Conv3d(4, 4, 1), (1, 1, 1), False),
    (nn.Conv2d(4, 4, 3, stride=2, padding=1), (1, 1), True),
    (nn.Conv2d(4, 4, 3, padding="same", dilation=2), (4, 9), True),
    (nn.Conv2d(4, 4, 3, padding="same", dilation=2), (5, 5), False),
    (nn.Conv1d(4, 4, 5, padding=2), (4,), True),
    (nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1), (1, 1), True),
    (nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1), (2, 2), False),
    (nn.ConvTranspose3d(4, 4, 2, stride=2), (1, 1, 1), False),
    (nn.ConvTranspose3d(4, 4, 2, padding=1), (2, 4, 4), True),
]


@pytest.mark.parametrize("convolution, size, leaves", SMALL)
def test_images_smaller_than_the_kernel_leave_the_autocast(convolution, size, leaves):
    keep_convolutions_in_float32(convolution)
    given = []
    own = convolution.forward
    convolution.forward = lambda images: (given.append(images.dtype), own(images))[1]
    images = torch.randn(2, 4, *size).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        output = convolution(images)
        assert torch.is_autocast_enabled("cpu")
    assert given == [torch.float32 if leaves else torch.bfloat16] and output.dtype == torch.bfloat16


UNWRITTEN = """
import sys, torch
from torch import nn
from monai_kd.engines import place_network
torch.manual_seed(0)
worst = 0.0
for convolution, size in [
    (nn.Conv3d(16, 16, 3, padding=1), (2, 3, 3)),
    (nn.Conv3d(16, 16, 5, padding=2), (4, 4, 4)),
    (nn.Conv2d(16, 16, 3, stride=2, padding=1), (1, 1)),
    (nn.ConvTranspose3d(16, 16, 3, padding=1), (2, 2, 2)),
]:
    place_network(convolution, "cpu", channels_last=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = convolution(torch.randn(1, 16, *size))
    output.float().square().mean().backward()
    worst = max(worst, float(convolution.weight.grad.abs().max()))
print(worst)
"""


def test_no_gradient_is_memory_that_nobody_has_written():
    """All memory is filled with large numbers when it is newly had, which glibc does where it is asked for."""
    filled = {**os.environ, "MALLOC_PERTURB_": "129"}  # 0x7e in each byte, 8e37 in both precisions
    done = subprocess.run([sys.executable, "-c", UNWRITTEN], env=filled, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1
