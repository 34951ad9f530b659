# SPDX-License-Identifier: Apache-2.0
import logging

import pytest
import torch
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer
from torch import nn

from monai_kd.engines import PrecisionInferer, choose_precision, has_bfloat16
from monai_kd.engines import precision as module
from monai_kd.engines import precision_of
from monai_kd.losses import DistillationLoss, DistillationTerm, HintLoss
from monai_kd.networks import FeatureTap

CPU = torch.device("cpu")


class Told(nn.Conv2d):
    """A convolution that remembers what it gave."""

    given: list[torch.dtype] = []

    def forward(self, input):
        output = super().forward(input)
        self.given = [*self.given, output.dtype]
        return output


@pytest.fixture
def processor(monkeypatch):
    def be(*flags: str, vendor: str = "GenuineIntel") -> None:
        monkeypatch.setattr(module, "_processor", lambda: (vendor, set(flags)))

    return be


@pytest.mark.parametrize(
    "flag, vendor", [("avx512_bf16", "AuthenticAMD"), ("amx_bf16", "GenuineIntel"), ("bf16", "")]
)
def test_auto_is_bfloat16_where_the_processor_is_faster_in_it(processor, flag, vendor):
    processor("avx512f", flag, vendor=vendor)
    assert has_bfloat16(CPU) and choose_precision("auto", "cpu") == "bfloat16"


@pytest.mark.parametrize("flag", ["avx512bw", "avx512_bf16"])
def test_auto_is_float32_on_another_processor(processor, caplog, flag):
    processor("avx512f", flag)
    assert choose_precision("auto", "cpu") == choose_precision("float32", "cpu") == "float32" and not caplog.messages


def test_bfloat16_on_another_processor_is_said_to_be_slower_once(processor, caplog):
    processor("avx2")
    with caplog.at_level(logging.WARNING, "monai_kd"):
        assert choose_precision("bfloat16", "cpu") == "bfloat16"
    (message,) = caplog.messages
    assert "no fast instructions for bfloat16: it works, and is slower than float32" in message


@pytest.mark.parametrize(
    "described, vendor, flags",
    [
        ("vendor_id : GenuineIntel\nflags : fpu\n\nvendor_id : Other\nflags : vme\n", "GenuineIntel", "fpu"),
        ("processor : 0\nFeatures : fp asimd bf16\n", "", "fp asimd bf16"),
        ("", "", ""),
    ],
)
def test_a_processor_is_read_as_linux_describes_its_first_core(monkeypatch, tmp_path, described, vendor, flags):
    (tmp_path / "cpuinfo").write_text(described)
    monkeypatch.setattr(module, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    assert module._processor() == (vendor, set(flags.split()))


def test_a_processor_that_has_it_is_told_nothing(processor, caplog):
    processor("amx_bf16")
    assert choose_precision("bfloat16", "cpu") == "bfloat16" and not caplog.messages


@pytest.mark.parametrize(
    "precision, reason",
    [("bf16", "unknown precision 'bf16'; did you mean 'bfloat16'"), (None, "precision"), ("float16", "needs a GPU")],
)
def test_what_is_no_precision_here_is_refused(precision, reason):
    with pytest.raises(ValueError, match=reason):
        choose_precision(precision, "cpu")


def test_a_network_computes_in_bfloat16_and_gives_float32():
    network, image = Told(1, 2, 3), torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    exact = network(image)
    rounded = PrecisionInferer(precision="bfloat16")(image, network)
    assert network.given == [torch.float32, torch.bfloat16] and rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded) and torch.allclose(exact, rounded, atol=0.05)
    assert network.weight.dtype == torch.float32


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_otherwise_the_network_is_applied_as_ever(precision):
    network, image = Told(1, 2, 3), torch.rand(1, 1, 8, 8)
    assert torch.equal(PrecisionInferer(precision=precision)(image, network), network(image))


def test_windows_are_blended_in_float32():
    network, image = Told(1, 1, 1), torch.rand(1, 1, 8, 8)
    inferer = PrecisionInferer(SlidingWindowInferer((4, 4), overlap=0.5), "bfloat16")
    once = PrecisionInferer(precision="bfloat16")(image, network)
    assert torch.allclose(inferer(image, network), once, atol=1e-6)  # bfloat16 would blend to 1e-3


def test_all_outputs_of_a_network_are_float32():
    first, second = PrecisionInferer(precision="bfloat16")(torch.rand(2, 3), lambda image: [image.bfloat16(), image])
    assert first.dtype == second.dtype == torch.float32


def test_features_and_projectors_of_a_network_in_bfloat16_meet_in_float32():
    student, teacher, projector = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 3, 1), nn.Conv2d(3, 2, 1)
    loss = DistillationLoss(
        {"hint": DistillationTerm(HintLoss(), student_layer="", teacher_layer="", teacher_projector=projector)}
    )
    inferer, features = PrecisionInferer(precision="bfloat16"), []
    for network in (student, teacher):
        tap = FeatureTap(network, [""])
        inferer(torch.rand(2, 1, 4, 4), network)
        features.append(tap.pop())
        tap.remove()
    total, values = loss(torch.zeros(()), *features)
    total.backward()
    assert total.dtype == values["hint"].dtype == torch.float32
    assert student.weight.grad is not None and projector.weight.grad is not None


def test_within_an_autocast_features_stay_as_they_are():
    network = nn.Conv2d(1, 2, 1)
    tap = FeatureTap(network, [""])
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(1, 1, 4, 4))
        assert tap.pop()[""].dtype == torch.bfloat16


def test_the_precision_of_a_configuration_of_before_is_known_from_its_amp():
    assert precision_of(ConfigParser({"compute_precision": "$'bfloat16'", "amp": True})) == "bfloat16"
    assert precision_of(ConfigParser({"amp": "$1 > 0"})) == "float16"
    assert precision_of(ConfigParser({})) == "float32"
