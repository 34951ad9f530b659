# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch.nn import functional as F

from monai_kd.networks import FeatureTap, KTViT

TAPS = ("embedding_1", "embedding_2", "decoder_2", "decoder_1")


def tiny(spatial_dims: int = 3, **kwargs: object) -> KTViT:
    torch.manual_seed(0)
    return KTViT(spatial_dims, **{"features": (4, 6, 8), "hidden_size": 8, "num_heads": 2, **kwargs})


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameters_at_the_papers_size() -> None:
    with torch.device("meta"):
        network = KTViT()
    assert count(network) == 25_427_617  # the paper: 25.5 million
    # A transformer layer of 320: queries, keys, values, projection, a perceptron of 1280, and two layer norms.
    layer = 3 * (320 * 320 + 320) + (320 * 320 + 320) + 2 * 320 * 1280 + 1280 + 320 + 4 * 320
    for number, channels in enumerate((64, 128, 256), 1):
        patches = 2 * 4**3 * channels * 320 + 320 + channels
        assert count(getattr(network, f"transformer_{number}")) == layer + patches + 2 * 320
    assert count(network.embedding_1) == 27 * 64 * 128 + 2 * 128
    assert count(network.decoder_1) == 27 * 256 * 64 + 2 * 64


@pytest.mark.parametrize("shape", [(32, 16, 48), (16, 32, 16)], ids=str)
def test_logits_have_the_images_size_in_3d(shape: tuple[int, ...]) -> None:
    assert tiny(in_channels=2, out_channels=3)(image(1, 2, *shape)).shape == (1, 3, *shape)


def test_logits_have_the_images_size_in_2d() -> None:
    network = tiny(2)
    assert network(image(2, 1, 32, 48)).shape == (2, 1, 32, 48)
    assert network.embedding_1.conv.kernel_size == (3, 3)


def test_features_lie_at_three_scales_under_their_names() -> None:
    network = tiny()
    tap = FeatureTap(network, [*TAPS, "pool_1", "pool_2", "transformer_3"])
    network(image(1, 1, 32, 32, 16))
    shapes = {name: tuple(feature.shape[1:]) for name, feature in tap.pop().items()}
    assert shapes == {
        "embedding_1": (6, 32, 32, 16),
        "embedding_2": (8, 16, 16, 8),
        "decoder_2": (6, 16, 16, 8),
        "decoder_1": (4, 32, 32, 16),
        "pool_1": (6, 16, 16, 8),
        "pool_2": (8, 8, 8, 4),
        "transformer_3": (8, 8, 8, 4),
    }


def test_attention_is_the_papers_formula() -> None:
    attention, tokens = tiny().transformer_1.layers[0].attention, image(2, 5, 8)
    q, k, v = (part.reshape(2, 5, 2, 4).transpose(1, 2) for part in attention.qkv(tokens).split(8, dim=2))
    heads = ((q @ k.transpose(2, 3)) / 2).softmax(dim=-1) @ v  # sqrt(4) = 2
    expected = attention.projection(torch.cat([heads[:, 0], heads[:, 1]], dim=-1))
    torch.testing.assert_close(attention(tokens), expected)


def test_a_token_is_a_patch_and_comes_back_to_its_place() -> None:
    encoder = tiny(patch_sizes=(2, 4, 4)).transformer_1
    x = image(1, 4, 4, 4, 4)
    tokens = []
    encoder.layers.register_forward_hook(lambda layer, inputs, output: tokens.append(inputs[0]))
    with torch.no_grad():
        encoder(x)
        assert tokens[0].shape == (1, 8, 8)  # 2 x 2 x 2 patches
        patch = x[0, :, 2:4, 0:2, 2:4]  # the sixth in the order of the axes
        by_hand = encoder.tokenise.weight.flatten(1) @ patch.flatten() + encoder.tokenise.bias
        torch.testing.assert_close(tokens[0][0, 5], by_hand)
        # A change of what the sixth token becomes stays in its patch.
        encoder.norm.register_forward_hook(lambda layer, inputs, output: output.index_fill(1, torch.tensor([5]), 0))
        changed = (encoder(x) - (x + encoder.detokenise.bias.reshape(1, -1, 1, 1, 1))).abs().amax(1)[0]
        assert changed[2:4, 0:2, 2:4].max() < 1e-6 < changed[0:2].min()


def test_a_voxel_sees_the_far_end_of_the_image() -> None:
    network = tiny().eval()
    x = image(1, 1, 64, 16, 16).requires_grad_()
    network(x)[0, 0, 0, 0, 0].backward()
    assert x.grad[0, 0, 48:].abs().max() > 0


def test_every_parameter_gets_a_gradient() -> None:
    network = tiny(depth=2)
    network(image(2, 1, 32, 16, 16)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_without_embeddings_the_scales_are_pooled_only() -> None:
    network = tiny(convolutional_embedding=False)
    tap = FeatureTap(network, [*TAPS, "transformer_1", "pool_1", "transformer_2"])
    assert network(image(1, 1, 32, 32, 16)).shape == (1, 1, 32, 32, 16)
    features = tap.pop()
    torch.testing.assert_close(features["pool_1"], F.max_pool3d(features["transformer_1"], 2), rtol=0, atol=0)
    assert [features[name].shape[1] for name in TAPS] == [4, 4, 4, 4]
    assert not list(network.embedding_1.parameters()) and not list(network.embedding_2.parameters())


@pytest.mark.parametrize(
    "kwargs, divisor",
    [
        ({}, [16, 16, 16]),
        ({"patch_sizes": 1}, [4, 4, 4]),
        ({"patch_sizes": (4, 2, 1)}, [4, 4, 4]),
        ({"pool_sizes": ((2, 2, 1), 2)}, [16, 16, 8]),
        ({"patch_sizes": (4, (4, 4, 2), (4, 4, 1)), "pool_sizes": ((2, 2, 1), (2, 2, 1))}, [16, 16, 4]),
        ({"patch_sizes": (3, 2, 2)}, [24, 24, 24]),
    ],
)
def test_the_smallest_image_is_one_divisor_long(kwargs: dict, divisor: list[int]) -> None:
    network = tiny(**kwargs).eval()
    assert network.divisor == divisor
    assert network(image(1, 1, *divisor)).shape == (1, 1, *divisor)
    with pytest.raises(ValueError, match=r"expects multiples of .* got an image of .*; pad it, or choose other"):
        network(image(1, 1, divisor[0], divisor[1], divisor[2] + 1))


def test_evaluation_is_independent_of_the_batch() -> None:
    network, x = tiny().eval(), image(3, 1, 16, 32, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(x[1:2]), network(x)[1:2])
        torch.testing.assert_close(network(MetaTensor(x)).as_tensor(), network(x), rtol=0, atol=0)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_torchscript_gives_the_same_at_any_size(spatial_dims: int) -> None:
    network = tiny(spatial_dims).eval()
    scripted = torch.jit.script(network)
    for size in (16, 32):
        x = image(2, 1, *[size] * spatial_dims)
        with torch.no_grad():
            torch.testing.assert_close(scripted(x), network(x))


def test_gradients_are_those_of_the_function() -> None:
    network = tiny(2, patch_sizes=1, features=(2, 2, 2), hidden_size=2, num_heads=1, norm="instance").double().eval()
    x = image(1, 1, 8, 8).double().requires_grad_()
    # Rectifiers and maxima have edges, which these numbers are far from.
    assert torch.autograd.gradcheck(network, (x,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"features": (4, 8)}, "channels of 3 scales as features"),
        ({"hidden_size": 9}, "hidden_size must be a multiple of num_heads=2, got 9"),
        ({"patch_sizes": (4, 4)}, "patch_sizes must be a number, or 3 numbers or lists of 3"),
        ({"patch_sizes": (4, (4, 4), 4)}, "patch_sizes must be a number, or 3"),
        ({"pool_sizes": 0}, "pool_sizes must be 1 or more, got 0"),
    ],
)
def test_impossible_sizes_are_refused(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**kwargs)


@pytest.mark.parametrize(
    "settings, parameters",
    [
        ({}, 25_427_617),
        ({"patch_sizes": 1}, 7_364_257),
        ({"convolutional_embedding": False}, 12_065_313),
        ({"convolutional_embedding": False, "features": (96, 96, 96), "hidden_size": 456}, 25_439_665),
    ],
)
def test_parameters_that_the_documents_name(settings, parameters):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in KTViT(**settings).parameters()) == parameters
