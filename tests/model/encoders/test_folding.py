"""Batch norms that are folded into convolutions: the features stay, and a network that does not allow it stays too."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssvq.config import Architecture
from ssvq.model.encoders.folding import fold_batch_norms
from ssvq.model.encoders.networks import feature_network
from tests.support.encoders import images, pretrained


def with_statistics(network: nn.Module) -> nn.Module:
    """Batch norms that change what goes through them, as trained ones do."""
    generator = torch.Generator().manual_seed(0)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values, low in (
                (norm.weight, 0.5),
                (norm.bias, -0.5),
                (norm.running_mean, -0.5),
                (norm.running_var, 0.5),
            ):
                assert values is not None
                values.data.uniform_(low, low + 1, generator=generator)
    return network.eval()


@pytest.mark.parametrize(("name", "norms"), [("tf_efficientnet_lite0", 33), ("resnet18", 15), ("convnext_atto", 0)])
def test_feature_maps_stay(name: str, norms: int) -> None:
    network = with_statistics(feature_network(Architecture(encoder=name)))
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == norms
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == 0
    with torch.no_grad():
        for before, after in zip(network(images(2)), folded(images(2)), strict=True):
            torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4 * float(before.abs().max()))


def test_features_of_the_packaged_network_stay() -> None:
    encoder = pretrained().eval()
    expected = encoder.features(images(3))
    encoder.fold()
    torch.testing.assert_close(
        encoder.features(images(3)), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
    )


class TakenTwice(nn.Module):
    """A convolution whose output goes on beside its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> list[Tensor]:
        made = self.conv(x)
        return [self.norm(made) + made]


class ActivatedFirst(TakenTwice):
    """A batch norm of what an activation has changed in place."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.norm(F.relu_(self.conv(x)))]


@pytest.mark.parametrize("kind", [TakenTwice, ActivatedFirst])
def test_a_network_that_would_change_stays_as_it_is(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = with_statistics(kind())
    expected = network(images(2))[0]
    assert fold_batch_norms(network) == 0
    torch.testing.assert_close(network(images(2))[0], expected, rtol=0, atol=0)
