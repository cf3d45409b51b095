"""One optimiser step of a method, on one device. It knows neither Ray, nor files, nor the source of its batches."""

import math
from functools import cached_property
from typing import cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ssvq.inference.scorer import normalise
from ssvq.methods.base import Method
from ssvq.methods.build import build_method, method_settings
from ssvq.model.description import Preprocessing
from ssvq.model.precision import autocast, resolve_device, resolve_precision
from ssvq.model.ranks import averaged, world_size
from ssvq.training.settings import Optimiser, TrainConfig

LARGEST_GROWTH = 1e4  # largest loss as a multiple of the first; a training that works stays below 10


class Engine:
    """A method in training: its weights, their moving average, optimiser and gradient scaler.

    `model` computes the loss: the method itself, or the method wrapped for DDP.
    """

    def __init__(self, config: TrainConfig, preprocessing: Preprocessing) -> None:
        torch.manual_seed(config.seed)
        self.config, self.preprocessing = config, preprocessing
        self.device = resolve_device(config.device)
        self.method = build_method(config.method, method_settings(config)).to(self.device)
        pretrained = self.method.backbone is not None
        self.precision = resolve_precision(config.precision, self.device, pretrained=pretrained)
        self.model: nn.Module = self.method
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        decay = config.optimiser.weight_average
        # The codebook consists of buffers that are moving averages already: it is copied, not averaged again.
        self.average = AveragedModel(self.method, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None

    @cached_property
    def optimiser(self) -> torch.optim.Adam:
        """Made at first use: a method that does not learn by steps may have no weights."""
        groups = self.method.parameter_groups(self.config.optimiser.learning_rate)
        for group in groups:
            group["base_rate"] = group["lr"]
        return torch.optim.Adam(groups)

    @property
    def scored(self) -> Method:
        """The weights that score and become the bundle: the moving average, if there is one."""
        return self.method if self.average is None else cast(Method, self.average.module)

    def load_network(self, weights: dict[str, Tensor]) -> None:
        """Load the weights of a pretrained network at the start of a training. Raises InputError if they belong to
        another network.
        """
        for method in {self.method, self.scored}:
            if method.backbone is not None:
                method.backbone.load_network(weights)

    def start(self, normal: NDArray[np.uint8]) -> None:
        """Prepare the method on the first normal samples, uint8 (n, size, size, 3)."""
        with autocast(self.precision, self.device):
            self.method.start(self._input(normal), self.config.seed, self.config.steps)

    def fit(self, normal: NDArray[np.uint8], anomalous: NDArray[np.uint8]) -> None:
        """Fit the scoring method to samples uint8 (n, size, size, 3)."""
        method = self.scored.eval()
        with autocast(self.precision, self.device):
            method.fit(self._input(normal), self._input(anomalous), self.config.seed)

    def step(
        self,
        step: int,
        normal: NDArray[np.uint8],
        anomalous: NDArray[np.uint8],
        shares: NDArray[np.float32] | None = None,
    ) -> dict[str, Tensor]:
        """Do one step, counted from 0, on samples uint8 (n, size, size, 3). `shares`: the anomalous share of each of
        their cells, if labels act by cell.

        Returns the figures of the step, scalars of this rank.
        """
        optimiser = self.config.optimiser
        self.method.train()
        done = learning_rate(optimiser, step, self.config.steps) / optimiser.learning_rate
        for group in self.optimiser.param_groups:
            group["lr"] = done * group["base_rate"]
        labels = None if shares is None else torch.from_numpy(np.require(shares, requirements="W")).to(self.device)
        with autocast(self.precision, self.device):
            terms: dict[str, Tensor] = self.model(self._input(normal), self._input(anomalous), labels)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(terms["loss"]).backward()
        self.scaler.unscale_(self.optimiser)
        gradient_norm = nn.utils.clip_grad_norm_(self.method.parameters(), optimiser.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        figures = self.method.after_step(step, self.config.seed)
        if self.average is not None:
            self.average.update_parameters(self.method)
        return {**{name: term.detach() for name, term in terms.items()}, "gradient_norm": gradient_norm, **figures}

    def _input(self, samples: NDArray[np.uint8]) -> Tensor:
        # Ray Data's batches are read-only views, and torch warns about those.
        pixels = torch.from_numpy(np.require(samples, requirements=["C", "W"]))
        return normalise(pixels.to(self.device, non_blocking=True), self.preprocessing)


def learning_rate(optimiser: Optimiser, step: int, steps: int) -> float:
    """Learning rate of a step, counted from 0, in a training of `steps` steps."""
    rate, warmup = optimiser.learning_rate, optimiser.warmup_steps
    if step < warmup:
        return rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(steps - warmup, 1)
    match optimiser.schedule:
        case "constant":
            return rate
        case "linear":
            return rate * (1 - done)
        case "cosine":
            return rate * (1 + math.cos(math.pi * done)) / 2


def mean_over_ranks(figures: dict[str, Tensor]) -> dict[str, float]:
    """Figures as floats, averaged over all ranks, so that all ranks decide alike."""
    values = torch.stack([torch.as_tensor(value).detach().double().cpu() for value in figures.values()])
    if world_size() > 1:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        values = averaged(values.to(device)).cpu()
    return dict(zip(figures, values.tolist(), strict=True))


def divergence(loss: float, first: float) -> str | None:
    """Why a loss counts as diverged, or None: it must be a number, and must not grow without bound."""
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if abs(loss) > LARGEST_GROWTH * max(abs(first), 1):
        return f"the loss is {loss:.3g}, and began at {first:.3g}"
    return None
