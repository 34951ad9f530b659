# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import nn
from torch.nn import functional as F

from monai_kd.networks import FeatureTap, HybridClassifier, create_timm_model

VIT = "vit_tiny_patch16_224"
TINY_VGG, TINY_VIT = {"mlp_ratio": 0.01}, {"img_size": 32, "depth": 1}
LAST_CONVOLUTION = "branches.0.features.18"  # of VGG11


def tiny(**kwargs: object) -> HybridClassifier:
    torch.manual_seed(0)
    return HybridClassifier(**{"branches": ("vgg11", VIT), "branch_kwargs": (TINY_VGG, TINY_VIT), **kwargs})


def two_vits(**kwargs: object) -> HybridClassifier:
    return tiny(branches=(VIT, VIT), branch_kwargs=[TINY_VIT] * 2, **kwargs)


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("branches", "parameters"),
    [
        (("vgg19", "vit_base_patch16_224"), 225_383_515),
        (("vgg19", "vgg19"), 279_165_083),
        (("vit_base_patch16_224",) * 2, 171_601_947),
    ],
)
def test_parameters_of_the_papers_teachers(branches: tuple[str, ...], parameters: int) -> None:
    with torch.device("meta"):
        network = HybridClassifier(branches)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network.classifier.weight.shape == (3, 6)


def test_defaults_are_the_papers_hybrid_and_its_layer_can_be_tapped() -> None:
    with torch.device("meta"):
        network = HybridClassifier()
        tap = FeatureTap(network, ["branches.0.features.34", "branches.1"])
        prediction = network(torch.zeros(2, 3, 224, 224))
    features = tap.pop()
    assert prediction.shape == (2, 3)
    assert features["branches.0.features.34"].shape == (2, 512, 14, 14)
    assert features["branches.1"].shape == (2, 3)
    assert isinstance(network.branches[0].features[34], nn.Conv2d)
    assert not any(isinstance(layer, nn.Conv2d) for layer in network.branches[0].features[35:])


def test_logits_are_linear_in_those_of_the_branches() -> None:
    network, x = tiny(num_classes=2, in_channels=1).eval(), image(3, 1, 32, 32)
    with torch.no_grad():
        first, second = (branch(x) for branch in network.branches)
        weight, bias = network.classifier.weight, network.classifier.bias
        expected = first @ weight[:, :2].T + second @ weight[:, 2:].T + bias
        torch.testing.assert_close(network(x), expected)


def test_pretrained_branches_see_the_image_in_the_scale_of_their_own_weights(tmp_path) -> None:
    files = {"vgg11": tmp_path / "vgg.pth", VIT: tmp_path / "vit.pth"}
    for (name, file), kwargs in zip(files.items(), (TINY_VGG, TINY_VIT)):
        torch.save(create_timm_model(name, num_classes=3, **kwargs).state_dict(), file)
    kwargs = [
        {**own, "pretrained_cfg_overlay": {"file": str(file), "num_classes": 3}}
        for own, file in zip((TINY_VGG, TINY_VIT), files.values())
    ]
    grey = image(2, 3, 32, 32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for pretrained, expected in ((True, (grey - 0.5) / 0.5), (False, (grey - mean) / std)):
        network = tiny(pretrained=pretrained, branch_kwargs=kwargs).eval()
        seen: list[torch.Tensor] = []
        for branch in network.branches:
            branch.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
        with torch.no_grad():
            network((grey - mean) / std)
        torch.testing.assert_close(seen[0], (grey - mean) / std, rtol=0, atol=0)  # VGG's own
        torch.testing.assert_close(seen[1], expected)
    weights = torch.load(files[VIT], weights_only=True)["patch_embed.proj.weight"]
    assert torch.equal(tiny(pretrained=True, branch_kwargs=kwargs).branches[1].patch_embed.proj.weight, weights)


def test_pretrained_branches_need_three_channels() -> None:
    with pytest.raises(ValueError, match="3 channels, got in_channels=1"):
        tiny(pretrained=True, in_channels=1)


def test_more_than_two_branches() -> None:
    network = tiny(branches=[VIT] * 3, branch_kwargs=[TINY_VIT] * 3, num_classes=4)
    assert network.classifier.in_features == 12 and network(image(2, 3, 32, 32)).shape == (2, 4)


def test_only_the_transformer_sees_the_image_resized() -> None:
    network, x = tiny().eval(), image(2, 3, 96, 64)
    seen = []
    for branch in network.branches:
        branch.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        assert network(x).shape == (2, 3)
    assert seen[0] is x
    torch.testing.assert_close(seen[1], F.interpolate(x, (32, 32), mode="bilinear", antialias=True), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (50, 37)])
def test_small_images(size: tuple[int, int]) -> None:
    assert tiny()(image(2, 3, *size)).shape == (2, 3)


def test_equal_branches_start_differently() -> None:
    first, second = (dict(branch.named_parameters()) for branch in two_vits().branches)
    assert not torch.equal(first["patch_embed.proj.weight"], second["patch_embed.proj.weight"])
    assert not torch.equal(first["head.weight"], second["head.weight"])


@pytest.mark.parametrize("branch", ["vgg11", "vgg11_bn"])
def test_tapped_map_is_that_before_the_activation(branch: str) -> None:
    network = tiny(branches=(branch, VIT))
    layer = LAST_CONVOLUTION if branch == "vgg11" else "branches.0.features.25"
    at_the_layer = {}
    network.get_submodule(layer).register_forward_hook(lambda _, inputs, y: at_the_layer.update(map=y.clone()))
    tap = FeatureTap(network, [layer])
    network(image(2, 3, 32, 32) - 0.5)
    tapped = tap.pop()[layer]
    assert tapped.min() < 0 < tapped.max()
    torch.testing.assert_close(tapped, at_the_layer["map"], rtol=0, atol=0)


def test_without_in_place_activations_the_logits_are_timms() -> None:
    network, x = tiny().eval(), image(2, 3, 32, 32)
    vgg = create_timm_model("vgg11", num_classes=3, **TINY_VGG).eval()
    vgg.load_state_dict(network.branches[0].state_dict())
    with torch.no_grad():
        torch.testing.assert_close(network.branches[0](x), vgg(x), rtol=0, atol=0)


def test_tapped_map_of_the_papers_student_is_not_overwritten() -> None:
    student = create_timm_model("efficientnet_b0", num_classes=3)
    at_the_layer = {}
    student.get_submodule("blocks.3").register_forward_hook(lambda _, inputs, y: at_the_layer.update(map=y.clone()))
    tap = FeatureTap(student, ["blocks.3"])
    student(image(2, 3, 64, 64))
    tapped = tap.pop()["blocks.3"]
    assert tapped.shape == (2, 80, 4, 4) and tapped.min() < 0
    torch.testing.assert_close(tapped, at_the_layer["map"], rtol=0, atol=0)


def test_every_parameter_gets_a_gradient() -> None:
    network = tiny()
    network(image(2, 3, 32, 32)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    assert network.get_submodule(LAST_CONVOLUTION).weight.grad.abs().sum() > 0


def test_frozen_backbone_trains_the_last_layers_alone() -> None:
    network = tiny(freeze_backbone=True)
    trainable = {name for name, p in network.named_parameters() if p.requires_grad}
    last = {"branches.0.head.fc", "branches.1.head", "classifier"}
    assert trainable == {f"{layer}.{kind}" for layer in last for kind in ("weight", "bias")}
    network(image(2, 3, 32, 32)).square().sum().backward()
    assert network.branches[1].head.weight.grad.abs().sum() > 0


def test_frozen_backbone_stays_in_evaluation_mode() -> None:
    network = tiny(branches=("vgg11_bn", VIT), branch_kwargs=({"mlp_ratio": 0.01, "drop_rate": 0.5}, TINY_VIT))
    frozen = tiny(
        branches=("vgg11_bn", VIT),
        branch_kwargs=({"mlp_ratio": 0.01, "drop_rate": 0.5}, TINY_VIT),
        freeze_backbone=True,
    )
    assert all(module.training for module in network.modules())
    for mode in (None, False, True):
        assert frozen if mode is None else frozen.train(mode) is frozen
        in_training = {name for name, module in frozen.named_modules() if module.training}
        heads = {"", "branches.0.head.fc", "branches.1.head", "classifier"}
        assert in_training == (set() if mode is False else heads)
    x, statistics = image(2, 3, 32, 32), frozen.branches[0].features[1].running_mean.clone()
    torch.testing.assert_close(frozen(x), frozen(x), rtol=0, atol=0)  # no dropout
    torch.testing.assert_close(frozen.branches[0].features[1].running_mean, statistics, rtol=0, atol=0)


def test_a_distilled_transformer_keeps_both_heads_trainable() -> None:
    name = "deit_tiny_distilled_patch16_224"
    network = tiny(branches=(name, VIT), branch_kwargs=[TINY_VIT] * 2, freeze_backbone=True)
    trainable = {name.rpartition(".")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert trainable == {"branches.0.head", "branches.0.head_dist", "branches.1.head", "classifier"}


def test_takes_a_meta_tensor() -> None:
    network, x = tiny().eval(), image(1, 3, 48, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(MetaTensor(x)).as_tensor(), network(x), rtol=0, atol=0)


@pytest.mark.parametrize("branches", [(), ("vgg11",), "vgg11"])
def test_fewer_than_two_branches_are_refused(branches: tuple[str, ...] | str) -> None:
    with pytest.raises(ValueError, match="expected a list of two or more networks, got"):
        HybridClassifier(branches)


def test_arguments_must_be_there_for_every_branch() -> None:
    with pytest.raises(ValueError, match="expected 2 branch_kwargs, one per branch, got 1"):
        tiny(branch_kwargs=[TINY_VIT])


def test_unknown_network_is_refused_with_the_closest_names() -> None:
    with pytest.raises(ValueError, match="no network 'vgg91'; closest names: .*vgg19"):
        tiny(branches=(VIT, "vgg91"), branch_kwargs=[TINY_VIT, {}])


def test_weights_that_cannot_be_had_are_an_error(tmp_path) -> None:
    missing = {**TINY_VIT, "pretrained_cfg_overlay": {"file": str(tmp_path / "none.pth")}}
    with pytest.raises(OSError, match=f"weights of '{VIT}' could not be fetched or read"):
        tiny(branches=(VIT, VIT), branch_kwargs=[missing] * 2, pretrained=True)
