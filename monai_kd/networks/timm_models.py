# SPDX-License-Identifier: Apache-2.0
"""Networks of timm by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from monai_kd.names import closest_names

from .torchvision_operators import import_timm

__all__ = ["create_timm_model", "input_size", "rescaled", "rescaling"]

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def create_timm_model(name: str, pretrained: bool | str = False, **kwargs: Any) -> nn.Module:
    """Build a network of timm by its name.

    R. Wightman, "PyTorch Image Models", GitHub, 2019.

    >>> create_timm_model("vit_tiny_patch16_224", num_classes=3, img_size=32, depth=1).head
    Linear(in_features=192, out_features=3, bias=True)

    Args:
        name: a name of ``timm.list_models()``, with or without the tag of its weights, for instance
            ``"vit_base_patch16_224"`` or ``"vit_base_patch16_224.augreg_in21k"``. timm's ``"hf-hub:..."`` and
            ``"local-dir:..."`` are passed on.
        pretrained: load the weights that timm names, which are downloaded unless they are in the cache, or those of
            the file with this path (``.safetensors``, ``.pth``). timm fits them to ``in_chans``, ``num_classes`` and
            ``img_size``. A last layer for other classes begins with small random weights.
        **kwargs: passed to ``timm.create_model``, for instance ``num_classes``, ``in_chans`` or ``img_size``.

    Raises:
        ValueError: when timm has no network of that name.
        OSError: when the weights cannot be fetched or read. Without a connection that takes most of a minute to tell,
            unless the environment has ``HF_HUB_OFFLINE=1``.
    """
    timm = import_timm()
    if ":" not in name and not timm.is_model(name):
        closest = closest_names(name.partition(".")[0], timm.list_models(), count=5)
        raise ValueError(f"timm has no network {name!r}; {closest}")
    if isinstance(pretrained, str):
        kwargs["pretrained_cfg_overlay"] = {**(kwargs.get("pretrained_cfg_overlay") or {}), "file": pretrained}
    try:
        network: Any = timm.create_model(name, pretrained=bool(pretrained), **kwargs)
    except OSError as error:
        raise OSError(
            f"the weights of {name!r} could not be fetched or read ({type(error).__name__}: {error}); without a "
            "connection use pretrained=False, or pretrained=PATH of an existing file of weights (.safetensors, .pth)"
        ) from error
    is_trained = pretrained and kwargs.get("num_classes") in (None, network.pretrained_cfg.get("num_classes"))
    if not is_trained and hasattr(network, "get_classifier"):
        _calm(network.get_classifier())
    return network


def _calm(classifier: nn.Module) -> None:
    """Begin with PyTorch's own weights in a last layer whose weights are far larger.

    EfficientNets and MobileNets draw them from -1 / sqrt(C) to 1 / sqrt(C), as for a thousand classes. With three the
    first predictions are sure and wrong, and the first steps spoil pretrained features.
    """
    if not isinstance(classifier, nn.Linear) or classifier.weight.is_meta:
        return
    if classifier.weight.detach().std() > classifier.in_features**-0.5:
        classifier.reset_parameters()


def input_size(network: nn.Module) -> tuple[int, int]:
    """Height and width in pixels that a network of timm is made for.

    Args:
        network: from :func:`create_timm_model`. A vision transformer has the size that it was built with; others accept
            any size, and theirs is that of their pretrained weights.

    >>> input_size(create_timm_model("vit_tiny_patch16_224", img_size=(32, 48), depth=1))
    (32, 48)
    """
    built_for = getattr(getattr(network, "patch_embed", None), "img_size", None)
    pretrained_cfg: Any = network.pretrained_cfg
    return tuple(built_for or pretrained_cfg["input_size"][-2:])


Rescaling = tuple[tuple[float, ...], tuple[float, ...]]


def rescaling(network: nn.Module) -> Rescaling | None:
    """Factors and offsets of the channels that bring an image from ImageNet's scale to that of a network's weights.

    Weights expect ``(grey - mean) / std`` with grey values in [0, 1] and a mean and deviation of their own: ImageNet's
    (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) for many networks, 0.5 and 0.5 for most vision transformers.

    Args:
        network: from :func:`create_timm_model`.

    Returns:
        None where ImageNet's is the scale of the weights.

    >>> rescaling(create_timm_model("resnet10t")) is None
    True
    """
    pretrained_cfg: Any = network.pretrained_cfg
    mean, std = (tuple(pretrained_cfg[name]) for name in ("mean", "std"))
    if (mean, std) == (_IMAGENET_MEAN, _IMAGENET_STD):
        return None
    factors = tuple(before / after for before, after in zip(_IMAGENET_STD, std))
    offsets = tuple((before - after) / own for before, after, own in zip(_IMAGENET_MEAN, mean, std))
    return factors, offsets


def rescaled(x: Tensor, scale: Rescaling | None) -> Tensor:
    """Images (B, 3, H, W) in ImageNet's scale, in that of :func:`rescaling`."""
    if scale is None:
        return x
    factors, offsets = (torch.tensor(values, dtype=x.dtype, device=x.device).view(-1, 1, 1) for values in scale)
    return x * factors + offsets
