"""ss-VQ-VAE (Sharma et al., DICTA 2023): a VQ-VAE that knows a few anomalies. With gamma = 0 it is VQ-VAE.

E encodes, Q quantises each latent cell to its nearest code, D decodes the quantised grid; the score of a tile
is the distance of its latents from the codebook (Eq. 5), so scoring needs no decoder.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ssvq.methods.base import (
    Method,
    Score,
    beyond_margin,
    root_sum_of_squares,
    rows_of_cells,
    weighted_mean,
    weights_of_cells,
)
from ssvq.methods.settings import Objective
from ssvq.model.codebook import Codebook
from ssvq.model.description import Preprocessing
from ssvq.model.encoders import build_encoder
from ssvq.model.fused import fused_distances
from ssvq.model.ranks import most_over_ranks
from ssvq.model.settings import Architecture, CodebookSettings

LEAST_CELLS = 1e-6  # in place of none, in a quotient
MOSTLY_NORMAL = 0.1  # greatest share of anomalous pixels of a cell that the codebook follows


class SSVQVAE(Method):
    """The model and its two objectives, whole or without some of their terms (ablations A1 and A2).

    `bounded` (default): normal samples have Eq. 2, as means over pixels and over cells and channels, its
    codebook term replaced by moving averages; anomalous samples have max(0, m - d) with d the mean squared
    distance from sg(Q). Where labels act by cell, every cell is pulled in by its share of normal pixels and pushed
    out by its share of anomalous ones, and the codebook follows the normal cells of all samples; a sample that is
    labelled as a whole is pushed out as a whole. `paper`: Eq. 2 to 4 as printed, squared norms summed over the
    sample, codes learned by gradient; it is unbounded below and diverges.
    """

    sections = ("architecture", "objective", "codebook")

    def __init__(self, architecture: Architecture, objective: Objective, codebook: CodebookSettings) -> None:
        super().__init__()
        self.objective, self.codebook_settings = objective, codebook
        self.reconstructs = objective.terms != "no-reconstruction"
        self.has_codebook_terms = objective.terms != "no-codebook"
        self.unused_weights = objective.terms != "all"  # the decoder, or codes that would learn by gradient
        self.encoder = build_encoder(architecture)
        self.decoder = self.encoder.new_decoder(architecture)
        self.by_gradient = objective.name == "paper" or not codebook.moving_averages
        self.codebook = Codebook(
            architecture.codes, architecture.dimensions, learned_by_gradient=self.by_gradient, decay=codebook.decay
        )
        self._normal_latents: Tensor | None = None
        self._normal_indices: Tensor | None = None

    def encode(self, images: Tensor) -> Tensor:
        """E(U): images (n, 3, h, w) to latents, float32 (n, D, h / cell, w / cell)."""
        return self.encoder(images)

    def quantise(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Q (Eq. 1): latents (n, D, h, w) to their nearest codes (n, D, h, w) and indices int64 (n h w,)."""
        n, dimensions, height, width = latents.shape
        indices = self.codebook.assign(rows_of_cells(latents))
        codes = F.embedding(indices, self.codebook.codes)
        return codes.view(n, height, width, dimensions).permute(0, 3, 1, 2), indices

    def terms(self, images: Tensor) -> dict[str, Tensor]:
        """The three terms of Eq. 2 for each sample, float32 (n,), as squared norms summed over the sample.

        `latents` and `indices` come along for the moving averages.
        """
        latents, target = self.encoder.encode(images)
        codes, indices = self.quantise(latents)
        return {
            "reconstruction": self._squared_errors(target, latents, codes).flatten(1).sum(1),
            "codebook": _squared_norm(latents.detach() - codes),
            "commitment": _squared_norm(latents - codes.detach()),
            "latents": latents,
            "indices": indices,
        }

    @staticmethod
    def labels_by_cell(objective: Objective) -> bool:
        """Where they are set to, but for the paper's objective and the ablations."""
        return objective.labels == "cell" and objective.name == "bounded" and objective.terms == "all"

    def loss(self, normal: Tensor, anomalous: Tensor, shares: Tensor | None = None) -> dict[str, Tensor]:
        """Eq. 4: eta x normal + (1 - eta) x anomalous, with its parts."""
        if self.objective.name == "paper":
            return self._paper_loss(normal, anomalous)
        if shares is not None:
            return self._loss_by_cell(normal, anomalous, shares)
        objective, n = self.objective, len(normal)
        # One pass of the encoder for both streams; of the anomalous samples, no more is decoded than enters the loss.
        latents, target = self.encoder.encode(torch.cat([normal, anomalous]))
        codes, indices = self.quantise(latents)
        distance = (latents - codes.detach()).square().mean(1)  # (samples, h, w)
        parts = {"commitment": distance[:n].mean()}
        normal_loss = objective.beta * parts["commitment"] * self.has_codebook_terms
        if self.by_gradient and self.has_codebook_terms:
            parts["codebook"] = (latents[:n].detach() - codes[:n]).square().mean()
            normal_loss = normal_loss + parts["codebook"]
        if self.reconstructs:
            decoded = n if self.has_codebook_terms else len(latents)
            errors = self._squared_errors(target[:decoded], latents[:decoded], codes[:decoded])
            parts["reconstruction"] = errors[:n].mean()
            normal_loss = normal_loss + parts["reconstruction"]
        parts["normal"] = normal_loss
        loss = objective.eta * normal_loss
        if len(anomalous):
            far = (
                distance[n:]
                if self.has_codebook_terms
                else self.encoder.over_cells(errors[n:]) / self.encoder.values_in_cell
            )
            parts["anomalous_distance"] = far.mean()
            far = far if objective.margin_on == "cell" else far.mean((1, 2))
            parts["anomalous"] = beyond_margin(far, objective.margin)
            loss = loss + (1 - objective.eta) * parts["anomalous"]
        self._keep_normal(rows_of_cells(latents[:n]), indices[: len(indices) * n // len(latents)])
        return {"loss": loss, **parts}

    def _loss_by_cell(self, normal: Tensor, anomalous: Tensor, shares: Tensor) -> dict[str, Tensor]:
        objective, n = self.objective, len(normal)
        latents, target = self.encoder.encode(torch.cat([normal, anomalous]))
        codes, indices = self.quantise(latents)
        distance = (latents - codes.detach()).square().mean(1)  # (samples, h, w)
        pulled, pushed = weights_of_cells(shares, n)
        parts = {
            "commitment": weighted_mean(distance, pulled),
            "reconstruction": self._squared_errors(target[:n], latents[:n], codes[:n]).mean(),
        }
        parts["normal"] = objective.beta * parts["commitment"] + parts["reconstruction"]
        if self.by_gradient:
            parts["codebook"] = weighted_mean((latents.detach() - codes).square().mean(1), pulled)
            parts["normal"] = parts["normal"] + parts["codebook"]
        loss = objective.eta * parts["normal"]
        if len(anomalous):
            as_a_whole = shares.isnan().flatten(1).all(1)
            as_a_whole[:n] = False
            parts["anomalous_distance"] = distance[n:].mean()
            parts["anomalous"] = self._missing_margin(distance, pushed, as_a_whole, n)
            loss = loss + (1 - objective.eta) * parts["anomalous"]
        followed = (pulled >= 1 - MOSTLY_NORMAL).flatten()
        if not followed.any():
            followed[: pulled[:n].numel()] = True
        self._keep_normal(rows_of_cells(latents)[followed], indices[followed])
        return {"loss": loss, **parts}

    def _missing_margin(self, distance: Tensor, pushed: Tensor, as_a_whole: Tensor, normal: int) -> Tensor:
        """How much distance anomalous cells lack to the margin: the mean of two means, one over all cells, and one over
        the labelled anomalous samples, each a mean over its anomalous cells, so that a small defect counts as a large
        one does. A sample that is labelled as a whole, bool (n,), lacks what its mean distance does.
        """
        lack = pushed * F.relu(self.objective.margin - distance)
        cells = pushed.flatten(1).sum(1)
        whole = F.relu(self.objective.margin - distance.mean((1, 2)))
        of_sample = torch.where(as_a_whole, whole, lack.flatten(1).sum(1) / cells.clamp_min(LEAST_CELLS))
        counted = (cells > 0) | as_a_whole
        counted[:normal] = False
        by_cell = lack.mean() + (whole * as_a_whole).mean()
        return (by_cell + weighted_mean(of_sample, counted.float())) / 2

    def _squared_errors(self, target: Tensor, latents: Tensor, codes: Tensor) -> Tensor:
        """Of the reconstruction, by value. Straight-through: the decoder sees the codes, the encoder gets the decoder's
        gradient. Without codebook terms nothing would hold latents and codes together, and it is D(E(X)), as Eq. 2 is
        printed.
        """
        decoded = latents + (codes - latents).detach() if self.has_codebook_terms else latents
        return (self.decoder(decoded).float() - target).square()

    def _paper_loss(self, normal: Tensor, anomalous: Tensor) -> dict[str, Tensor]:
        objective = self.objective
        terms = self.terms(normal)
        normal_loss = self._eq2(terms)
        loss = objective.eta * normal_loss
        parts = {name: terms[name].mean() for name in ("reconstruction", "codebook", "commitment")}
        parts["normal"] = normal_loss
        if len(anomalous):
            parts["anomalous"] = -self._eq2(self.terms(anomalous))  # Eq. 3
            loss = loss + (1 - objective.eta) * parts["anomalous"]
        self._keep_normal(rows_of_cells(terms["latents"]), terms["indices"])
        return {"loss": loss, **parts}

    def _eq2(self, terms: dict[str, Tensor]) -> Tensor:
        reconstruction = terms["reconstruction"] * self.reconstructs
        of_codebook = (terms["codebook"] + self.objective.beta * terms["commitment"]) * self.has_codebook_terms
        return (reconstruction + of_codebook).mean()

    def _keep_normal(self, latents: Tensor, indices: Tensor) -> None:
        self._normal_latents, self._normal_indices = latents.detach(), indices

    def start(self, normal: Tensor, seed: int, steps: int) -> None:
        """Measure the colours of the first normal batch; start the codebook from k-means over its latents."""
        self.encoder.start(normal)
        if self.codebook_settings.kmeans and self.objective.name != "paper":
            with torch.no_grad():
                self.codebook.start_from(rows_of_cells(self.encode(normal)), seed)

    def after_step(self, step: int, seed: int) -> dict[str, Tensor]:
        """Move the codebook towards the normal latents of the step, and set dead codes anew now and then."""
        latents, indices = self._normal_latents, self._normal_indices
        if latents is None or indices is None:
            return {}
        self._normal_latents = self._normal_indices = None
        used, sums = self.codebook.usage(latents, indices)
        share = used / used.sum()
        perplexity = torch.exp(-(share * torch.log(share + 1e-10)).sum())
        record = {"codes_used": (used > 0).float().sum(), "perplexity": perplexity}
        if self.has_codebook_terms and not self.by_gradient:
            settings = self.codebook_settings
            self.codebook.follow(used, sums)
            if settings.reseed_every is not None and (step + 1) % settings.reseed_every == 0:
                # Ranks draw from equally many latents each, and may have kept other numbers of normal cells.
                as_many = most_over_ranks(len(latents), latents.device)
                latents = latents[torch.arange(as_many, device=latents.device) % len(latents)]
                reseeded = self.codebook.reseed_dead(latents, settings.dead_below, seed + step)
                record["codes_reseeded"] = used.new_tensor(reseeded)
        return record

    @torch.no_grad()
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """Eq. 5: s(U) = ||E(U) - Q(U)||_2 over the latent grid, and the distance of each cell. Without codebook terms
        nothing trains the codes, and it is the reconstruction error of the tile and of each cell.
        """
        if self.has_codebook_terms:
            latents = self.encode(tiles)
            n, _, height, width = latents.shape
            squared = self.codebook.squared_distance(rows_of_cells(latents)).view(n, height, width)
        else:
            latents, target = self.encoder.encode(tiles)
            squared = self.encoder.over_cells(self._squared_errors(target, latents, latents))
        return Score(root_sum_of_squares(squared, valid_cells), squared.sqrt())

    def score_on_gpu(
        self, preprocessing: Preprocessing, precision: str
    ) -> Callable[[Tensor, Tensor | None], Score] | None:
        """Eq. 5 by fused kernels, for the paper's encoder."""
        squared_distances = (
            fused_distances(self.encoder, self.codebook, preprocessing, precision) if self.has_codebook_terms else None
        )
        if squared_distances is None:
            return None

        def score(pixels: Tensor, valid_cells: Tensor | None) -> Score:
            squared = squared_distances(pixels)
            return Score(root_sum_of_squares(squared, valid_cells), squared.sqrt())

        return score


def _squared_norm(difference: Tensor) -> Tensor:
    return difference.square().flatten(1).sum(1)
