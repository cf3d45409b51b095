"""Folds batch norms into the preceding convolutions for scoring: each saves a pass over its map."""

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

SIDE = 64  # of the image that is sent through a network
TOLERANCE = 1e-3  # of the largest value of a feature map; folding changes rounding alone, by some 1e-6


@torch.no_grad()
def fold_batch_norms(network: nn.Module) -> int:
    """Fold each batch norm whose input is the output of a convolution; the network must be in evaluation mode.

    If the feature maps change, for instance because that output is used twice, the network is left as it was. Returns
    the number of folded norms.
    """
    names = {module: name for name, module in network.named_modules()}
    if not any(isinstance(module, nn.BatchNorm2d) for module in names):
        return 0
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pairs, before = _pairs(network, image)
    weights = {conv: (conv.weight.data, conv.bias) for conv in pairs}
    for conv, norm in pairs.items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        _replace(network, names[norm], _rest(norm))
    after = network(image)
    if all((a - b).abs().max() <= TOLERANCE * b.abs().max() for a, b in zip(after, before, strict=True)):
        return len(pairs)
    for conv, norm in pairs.items():
        conv.weight.data, conv.bias = weights[conv]
        _replace(network, names[norm], norm)
    return 0


def _pairs(network: nn.Module, image: Tensor) -> tuple[dict[nn.Conv2d, nn.BatchNorm2d], list[Tensor]]:
    """Each convolution whose output a batch norm takes, with that norm; and the feature maps of the image."""
    made_by: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # keep the tensor, so that no other gets its id
    pairs: dict[nn.Conv2d, nn.BatchNorm2d] = {}

    def note(conv: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        made_by[id(output)] = (conv, output)

    def find(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        if id(inputs[0]) in made_by and norm.track_running_stats:
            pairs[made_by[id(inputs[0])][0]] = norm

    hooks = [
        module.register_forward_hook(note) if isinstance(module, nn.Conv2d) else module.register_forward_pre_hook(find)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    maps = network(image)
    for hook in hooks:
        hook.remove()
    return pairs, maps


def _rest(norm: nn.BatchNorm2d) -> nn.Module:
    """What a batch norm does besides: those of timm include the activation."""
    return nn.Sequential(*(getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)))


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)
