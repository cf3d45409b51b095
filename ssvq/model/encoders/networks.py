"""Timm networks that give feature maps, through timm's own interface for features."""

import difflib
import sys
import types
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ssvq.errors import InputError, one_line, reason_of
from ssvq.model.settings import Architecture

# Level of a network: the index of a feature map in timm's list, from the finest to the coarsest.
# The default levels have cells of these sides.
DEFAULT_REDUCTIONS = (8, 16)


@cache
def timm() -> ModuleType:
    """Import timm, which takes seconds.

    torchvision, which timm imports, refuses a torch of another build (PyPI's torchvision beside a CPU torch) because of
    its compiled operators. Feature maps use none of them, so they are left out then.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        operators = "torchvision._meta_registrations"
        sys.modules[operators] = types.ModuleType(operators)
    import timm as found

    return found


def check_name(name: str) -> None:
    """Raises InputError for a name that timm does not know.

    Names with a location, such as `hf-hub:NAME`, are refused: a bundle must not make its reader use a network.
    """
    if ":" not in name and "/" not in name and timm().is_model(name):
        return
    alike = difflib.get_close_matches(name, ["paper", *timm().list_models()], n=3)
    advice = f"did you mean {' or '.join(alike)}?" if alike else "`timm.list_models()` lists the names"
    raise InputError(f"--architecture.encoder {one_line(name[:80])}: timm has no such network; {advice}")


def feature_network(architecture: Architecture) -> nn.Module:
    """The network without weights, cut off after the last level. Its output is a list of float32 (n, channels, h /
    reduction, w / reduction), a map for each level.

    Raises InputError if timm does not know the name, or if the network lacks feature maps or these levels.
    """
    return _create(architecture.encoder, out_indices=levels_of(architecture))


def levels_of(architecture: Architecture) -> tuple[int, ...]:
    """The levels to use: those of the setting; else those with reductions of 8 and 16; else the middle and the last one
    (transformers, whose maps all have one size).

    Raises InputError as `feature_network`.
    """
    name = architecture.encoder
    reductions = [level["reduction"] for level in _feature_info(name)]
    if architecture.levels is not None:
        wanted, last = architecture.levels, len(reductions) - 1
        if not wanted or any(not 0 <= level <= last for level in wanted):
            raise InputError(f"--architecture.levels {','.join(map(str, wanted))}: {name} has the levels 0 to {last}")
        return tuple(wanted)
    chosen = tuple(reductions.index(reduction) for reduction in DEFAULT_REDUCTIONS if reduction in reductions)
    if len(set(reductions)) > 1 and chosen:
        return chosen
    return (len(reductions) // 2, len(reductions) - 1)


def scale_of(architecture: Architecture) -> float:
    """Scale at which the network sees images."""
    return architecture.scale or 1.0


def cell_of(architecture: Architecture) -> int:
    """Side of a latent cell in pixels of an image, which the network sees at the scale."""
    info = _feature_info(architecture.encoder)
    return round(min(info[level]["reduction"] for level in levels_of(architecture)) / scale_of(architecture))


def check_side(architecture: Architecture, side: int, setting: str) -> None:
    """Raises InputError unless images of this side are whole numbers of cells that the network can take. `setting`:
    the setting that gave the side.
    """
    cell = cell_of(architecture)
    seen = round(side * scale_of(architecture))
    advice = f"give a multiple of {cell}, such as {max(1, round(side / cell)) * cell}"
    network = feature_network_without_memory(architecture)
    try:
        maps = network(torch.zeros(1, 3, seen, seen, device="meta"))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = reason_of(error, most=120)
        raise InputError(f"{setting} {side}: {architecture.encoder} cannot take it ({reason}); {advice}") from None
    grid = max(tuple(level.shape[2:]) for level in maps)
    if side % cell or grid != (side // cell, side // cell):
        raise InputError(f"{setting} {side} is not a multiple of the cell of {architecture.encoder}: {advice}")


def feature_network_without_memory(architecture: Architecture) -> nn.Module:
    """`feature_network` without memory, for its shapes alone."""
    with torch.device("meta"):
        return feature_network(architecture).eval()


def pretrained_cfg(name: str) -> Any:
    """What timm knows about the weights behind a name: mean, standard deviation, licence, origin."""
    return timm().get_pretrained_cfg(name)


def levels_info(network: nn.Module) -> list[dict[str, Any]]:
    """What timm says about each level: `reduction`, `num_chs`, `module`."""
    found: list[dict[str, Any]] = network.feature_info.info  # type: ignore[union-attr,assignment]
    return found


@cache
def _feature_info(name: str) -> tuple[dict[str, Any], ...]:
    check_name(name)
    with torch.device("meta"):
        network = _create(name)
    return tuple(levels_info(network))


def _create(name: str, **levels: Any) -> nn.Module:
    """timm's network for features. Transformers are told that images have several sizes: crops and tiles."""
    options = {"features_only": True, "feature_cls": "getter", "pretrained": False, **levels}
    for sizes in ({"dynamic_img_size": True}, {}):
        try:
            network: nn.Module = timm().create_model(name, **options, **sizes)
            return network
        except TypeError as error:
            if "dynamic_img_size" not in str(error):
                raise
        except (AssertionError, AttributeError, LookupError, RuntimeError, ValueError) as error:
            raise _no_maps(name, error) from None
    raise AssertionError("the second try has no size to be refused")


def _no_maps(name: str, error: Exception) -> InputError:
    reason = reason_of(error, most=200)
    return InputError(f"--architecture.encoder {name}: this network of timm gives no feature maps ({reason})")
