"""ss-VQ-VAE (Sharma et al., DICTA 2023): a VQ-VAE that knows a few anomalies. With gamma = 0 it is VQ-VAE.

E encodes, Q quantises each latent cell to its nearest code, D decodes the quantised grid; the score of a tile
is the distance of its latents from the codebook (Eq. 5), so scoring needs no decoder.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssvq.config import Architecture, CodebookSettings, Objective
from ssvq.methods.base import Method, Score, root_sum_of_squares
from ssvq.model.codebook import Codebook
from ssvq.model.network import Decoder, Encoder


class SSVQVAE(Method):
    """The model and its two objectives.

    `bounded` (default): normal samples have Eq. 2, as means over pixels and over cells and channels, its
    codebook term replaced by moving averages; anomalous samples have max(0, m - d) with d the mean squared
    distance from sg(Q). `paper`: Eq. 2 to 4 as printed, squared norms summed over the sample, codes learned by
    gradient; it is unbounded below and diverges.
    """

    sections = ("architecture", "objective", "codebook")

    def __init__(self, architecture: Architecture, objective: Objective, codebook: CodebookSettings) -> None:
        super().__init__()
        self.objective, self.codebook_settings = objective, codebook
        self.encoder = Encoder(architecture)
        self.decoder = Decoder(architecture)
        self.codebook = Codebook(
            architecture.codes,
            architecture.dimensions,
            learned_by_gradient=objective.name == "paper",
            decay=codebook.decay,
        )
        self._normal_latents: Tensor | None = None
        self._normal_indices: Tensor | None = None

    def encode(self, images: Tensor) -> Tensor:
        """E(U): images (n, 3, h, w) to latents, float32 (n, D, h / 4, w / 4)."""
        return self.encoder(images)

    def quantise(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Q (Eq. 1): latents (n, D, h, w) to their nearest codes (n, D, h, w) and indices int64 (n h w,)."""
        n, dimensions, height, width = latents.shape
        indices = self.codebook.assign(_cells(latents))
        codes = F.embedding(indices, self.codebook.codes)
        return codes.view(n, height, width, dimensions).permute(0, 3, 1, 2), indices

    def terms(self, images: Tensor) -> dict[str, Tensor]:
        """The three terms of Eq. 2 for each sample, float32 (n,), as squared norms summed over the sample.

        `latents` and `indices` come along for the moving averages.
        """
        latents = self.encode(images)
        codes, indices = self.quantise(latents)
        # Straight-through: the decoder sees the codes, the encoder gets the decoder's gradient.
        reconstruction = self.decoder(latents + (codes - latents).detach()).float()
        return {
            "reconstruction": _squared_norm(reconstruction - self.encoder.whitening(images)),
            "codebook": _squared_norm(latents.detach() - codes),
            "commitment": _squared_norm(latents - codes.detach()),
            "latents": latents,
            "indices": indices,
        }

    def loss(self, normal: Tensor, anomalous: Tensor) -> dict[str, Tensor]:
        """Eq. 4: eta x normal + (1 - eta) x anomalous, with its parts."""
        if self.objective.name == "paper":
            return self._paper_loss(normal, anomalous)
        objective = self.objective
        n = len(normal)
        # One pass of the encoder for both streams; only normal samples are decoded.
        latents = self.encode(torch.cat([normal, anomalous]))
        codes, indices = self.quantise(latents)
        straight_through = latents[:n] + (codes[:n] - latents[:n]).detach()
        reconstruction = F.mse_loss(self.decoder(straight_through).float(), self.encoder.whitening(normal))
        distance = (latents - codes.detach()).square().mean(1)  # (samples, h, w)
        commitment = distance[:n].mean()
        normal_loss = reconstruction + objective.beta * commitment
        parts = {"reconstruction": reconstruction, "commitment": commitment, "normal": normal_loss}
        loss = objective.eta * normal_loss
        if len(anomalous):
            far = distance[n:] if objective.margin_on == "cell" else distance[n:].mean((1, 2))
            parts["anomalous"] = F.relu(objective.margin - far).mean()
            parts["anomalous_distance"] = distance[n:].mean()
            loss = loss + (1 - objective.eta) * parts["anomalous"]
        self._keep_normal(latents[:n], indices[: len(indices) * n // len(latents)])
        return {"loss": loss, **parts}

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
        self._keep_normal(terms["latents"], terms["indices"])
        return {"loss": loss, **parts}

    def _eq2(self, terms: dict[str, Tensor]) -> Tensor:
        beta = self.objective.beta
        return (terms["reconstruction"] + terms["codebook"] + beta * terms["commitment"]).mean()

    def _keep_normal(self, latents: Tensor, indices: Tensor) -> None:
        self._normal_latents, self._normal_indices = _cells(latents).detach(), indices

    def start(self, normal: Tensor, seed: int) -> None:
        """Measure the colours of the first normal batch; start the codebook from k-means over its latents."""
        self.encoder.start(normal)
        if self.objective.name != "paper":
            with torch.no_grad():
                self.codebook.start_from(_cells(self.encode(normal)), seed)

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
        if self.objective.name != "paper":
            self.codebook.follow(used, sums)
            if (step + 1) % self.codebook_settings.reseed_every == 0:
                dead_below = self.codebook_settings.dead_below
                reseeded = self.codebook.reseed_dead(latents, dead_below, seed + step)
                record["codes_reseeded"] = used.new_tensor(reseeded)
        return record

    @torch.no_grad()
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """Eq. 5: s(U) = ||E(U) - Q(U)||_2 over the latent grid, and the distance of each cell."""
        latents = self.encode(tiles)
        n, _, height, width = latents.shape
        squared = self.codebook.squared_distance(_cells(latents)).view(n, height, width)
        return Score(root_sum_of_squares(squared, valid_cells), squared.sqrt())


def _cells(latents: Tensor) -> Tensor:
    """(n, D, h, w) to (n h w, D)."""
    return latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])


def _squared_norm(difference: Tensor) -> Tensor:
    return difference.square().flatten(1).sum(1)
