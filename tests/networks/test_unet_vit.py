# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.nets import BasicUNet

from monai_kd.networks import FeatureTap, UNetViT

FEATURES = (4, 4, 8, 8, 16, 4)


def tiny(**kwargs: object) -> UNetViT:
    torch.manual_seed(0)
    tiny_vit = {"vit": "vit_tiny_patch16_224", "vit_kwargs": {"img_size": 32, "depth": 1}}
    return UNetViT(features=FEATURES, **{**tiny_vit, **kwargs})


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (50, 37)])
def test_logits_have_the_images_size(size: tuple[int, int]) -> None:
    assert tiny(in_channels=1, out_channels=2)(image(2, 1, *size)).shape == (2, 2, *size)


def test_a_pretrained_transformer_sees_the_image_in_the_scale_of_its_weights(tmp_path) -> None:
    torch.save(tiny().vit.state_dict(), tmp_path / "vit.pth")
    overlay = {"pretrained_cfg_overlay": {"file": str(tmp_path / "vit.pth"), "num_classes": 0}}
    grey = image(1, 3, 32, 32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for pretrained, expected in ((True, 2 * grey - 1), (False, (grey - mean) / std)):
        network = tiny(pretrained=pretrained, vit_kwargs={"img_size": 32, "depth": 1, **overlay}).eval()
        seen: list[torch.Tensor] = []
        network.vit.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
        with torch.no_grad():
            network((grey - mean) / std)
        torch.testing.assert_close(seen[0], expected)


def test_parameters_at_the_papers_size() -> None:
    with torch.device("meta"):
        network = UNetViT()
    assert sum(p.numel() for p in network.vit.parameters()) == 85_798_656  # ViT-B/16 without its classification layer
    assert sum(p.numel() for p in network.vit_projection.parameters()) == 768 * 1024 + 1024
    assert sum(p.numel() for p in network.parameters()) == 117_699_329
    assert network.vit_input_size == (224, 224)


def test_decoder_sees_bridge_plus_projected_vector_everywhere() -> None:
    network, x = tiny().eval(), image(2, 3, 64, 48)
    with torch.no_grad():
        # The projection is a constant here, so that it can be added by hand to a plain U-Net of the same weights.
        network.vit_projection.weight.zero_()
        network.vit_projection.bias.copy_(torch.arange(16.0))
        plain = BasicUNet(2, 3, 1, FEATURES).eval()
        plain.load_state_dict(network.state_dict(), strict=False)
        plain.down_4.register_forward_hook(lambda layer, inputs, y: y + torch.arange(16.0).reshape(1, 16, 1, 1))
        torch.testing.assert_close(network(x), plain(x))


def test_without_a_projection_it_is_a_plain_unet() -> None:
    network, x = tiny().eval(), image(1, 3, 32, 32)
    plain = BasicUNet(2, 3, 1, FEATURES).eval()
    plain.load_state_dict(network.state_dict(), strict=False)
    with torch.no_grad():
        assert not torch.allclose(network(x), plain(x))
        network.vit_projection.weight.zero_()
        network.vit_projection.bias.zero_()
        torch.testing.assert_close(network(x), plain(x), rtol=0, atol=0)


def test_vector_is_the_projected_feature_of_the_resized_image() -> None:
    network, x = tiny().eval(), torch.full((2, 3, 64, 40), 0.7)  # an even image stays itself when it is resized
    tap = FeatureTap(network, ["vit", "vit_projection"])
    with torch.no_grad():
        network(x)
        expected = network.vit(torch.full((2, 3, 32, 32), 0.7))
    features = tap.pop()
    torch.testing.assert_close(features["vit"], expected, rtol=0, atol=1e-5)
    assert features["vit"].shape == (2, 192) and features["vit_projection"].shape == (2, 16)


def test_every_parameter_gets_a_gradient() -> None:
    network = tiny()
    network(image(2, 3, 32, 32)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    assert network.vit.patch_embed.proj.weight.grad.abs().sum() > 0


def test_evaluation_is_deterministic_and_independent_of_the_batch() -> None:
    network, x = tiny(dropout=0.5).eval(), image(3, 3, 32, 48)
    with torch.no_grad():
        together = network(x)
        torch.testing.assert_close(network(x), together, rtol=0, atol=0)
        torch.testing.assert_close(network(x[1:2]), together[1:2])


def test_has_the_layers_of_its_student() -> None:
    student = dict(BasicUNet(2, 3, 1, FEATURES).named_modules())
    assert student.keys() <= dict(tiny().named_modules()).keys()


def test_takes_a_meta_tensor() -> None:
    network, x = tiny().eval(), image(1, 3, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(network(MetaTensor(x)).as_tensor(), network(x), rtol=0, atol=0)


def test_any_timm_network_with_a_feature_vector_can_stand_in_for_the_transformer() -> None:
    network = tiny(vit="mobilenetv3_small_050", vit_kwargs=None)  # its vector has another length than its last map
    assert network(image(2, 3, 32, 32)).shape == (2, 1, 32, 32)


def test_unknown_transformer_is_refused() -> None:
    with pytest.raises(ValueError, match="no network 'vit_tiny_patch16_22'; closest names: .*vit_tiny_patch16_224"):
        tiny(vit="vit_tiny_patch16_22")
