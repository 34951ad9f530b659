# SPDX-License-Identifier: Apache-2.0
"""Against nnU-Net's own network of the same plans."""

from __future__ import annotations

import copy

import pytest
import torch

from monai_kd.losses import DistillationLoss, DistillationTerm, HintLoss, LayerwiseLoss, SoftTargetLoss
from monai_kd.networks import FeatureTap, LayerProjectors
from monai_kd.nnunet import NnunetLoss, NnunetNetwork, NnunetPlans
from monai_kd.nnunet.network import head_layers, head_weights, hint_projectors, stage_layers

from .conftest import PATCH, small_plans

pytest.importorskip("nnunetv2", reason="nnU-Net is not installed")
pytestmark = pytest.mark.nnunet


def residual_plans() -> dict:
    plans = small_plans()
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    arguments = architecture["arch_kwargs"]
    arguments["n_blocks_per_stage"] = arguments.pop("n_conv_per_stage")
    return plans


def flat_plans() -> dict:
    plans = small_plans()
    chosen = plans["configurations"]["2d"] = plans["configurations"].pop("3d_fullres")
    chosen.update(patch_size=PATCH[1:], spacing=[1.6, 1.6])
    arguments = chosen["architecture"]["arch_kwargs"]
    arguments.update(conv_op="torch.nn.modules.conv.Conv2d", norm_op="torch.nn.modules.instancenorm.InstanceNorm2d")
    arguments.update(kernel_sizes=[[3, 3]] * 3, strides=[[1, 1], [2, 2], [2, 2]])
    return plans


PLANS = {"plain": small_plans, "residual": residual_plans, "flat": flat_plans}


@pytest.mark.parametrize("kind", PLANS)
def test_weights_and_outputs_are_those_of_nnunets_own_network(kind, description):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    plans = PLANS[kind]()
    known = NnunetPlans(plans, description)
    architecture = known.architecture
    own = get_network_from_plans(
        architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"], 2, 4
    )
    network = NnunetNetwork(plans, description)
    network.load_state_dict(own.state_dict())
    image = torch.randn(2, 2, *known.configuration.patch_size, generator=torch.Generator().manual_seed(0))
    own.decoder.deep_supervision = True
    with torch.no_grad():
        wanted = own.eval()(image)
        assert torch.equal(network.eval()(image), wanted[0])
        heads = network.train()(image)
    assert [head.shape for head in heads] == [head.shape for head in wanted] and len(heads) == 2
    tap = FeatureTap(network.eval(), [*head_layers(plans), *stage_layers(plans)])
    network(image)
    taken = tap.pop()
    assert all(torch.equal(taken[layer], head) for layer, head in zip(head_layers(plans), wanted))
    scripted = torch.jit.script(network)
    torch.testing.assert_close(scripted(image), wanted[0], rtol=1e-4, atol=1e-5)


def test_a_narrow_student_learns_from_heads_and_stages(description):
    plans = small_plans()
    teacher, student = NnunetNetwork(plans, description).eval(), NnunetNetwork(plans, description, reduction=4)
    projectors = LayerProjectors(hint_projectors(plans, 4))
    soft = LayerwiseLoss(SoftTargetLoss(), weights=head_weights(plans))
    heads, stages = head_layers(plans), stage_layers(plans)
    loss = DistillationLoss(
        {
            "soft_target": DistillationTerm(soft, heads, heads),
            "hint": DistillationTerm(LayerwiseLoss(HintLoss()), stages, stages, student_projector=projectors),
        }
    )
    taps = [FeatureTap(network, [*heads, *stages]) for network in (student, teacher)]
    image = torch.randn(2, 2, *PATCH, generator=torch.Generator().manual_seed(0))
    label = [torch.randint(0, 4, (2, 1, *size)) for size in (PATCH, [8, 16, 16])]
    with torch.no_grad():
        teacher(image)
    task = NnunetLoss(plans, description)(student.train()(image), label)
    total, values = loss(task, *(tap.pop() for tap in taps))
    total.backward()
    assert values["soft_target"] > 0 and values["hint"] > 0
    # The coarsest head has no weight, in nnU-Net's loss and in the term.
    without = {name for name, value in student.named_parameters() if value.grad is None or not value.grad.any()}
    assert {name.rpartition(".")[0] for name in without if "seg_layers" in name} == {"decoder.seg_layers.0"}
    assert all(parameter.grad is not None for parameter in projectors.parameters())


def test_the_loss_takes_a_network_without_heads_by_its_finest_grid(description):
    plans = small_plans()
    loss = NnunetLoss(plans, description)
    logits = torch.randn(2, 4, *PATCH, generator=torch.Generator().manual_seed(0))
    label = [torch.randint(0, 4, (2, 1, *size)) for size in (PATCH, [8, 16, 16])]
    assert torch.equal(loss(logits, label), loss([logits, logits[..., ::2, ::2]], label))
    regions = {**description, "labels": {"background": 0, "all": [1, 2, 3], "one": [3]}, "regions_class_order": [1, 3]}
    masks = [copy.copy(own.repeat(1, 2, 1, 1, 1).clamp(max=1)) for own in label]
    assert NnunetLoss(plans, regions)(logits[:, :2], masks).isfinite()
