"""The codebook Q of K codes of D dimensions: look-up (Eq. 1), learning, and health.

A codebook that only follows gradients collapses to a few codes. Therefore it starts from k-means over encoder outputs,
and follows exponential moving averages of the latents assigned to each code (van den Oord et al. 2017, appendix A.1),
from normal samples alone. Dead codes are re-seeded.

Under DDP every rank holds the same codebook, bit for bit: counts and sums are all-reduced, and random draws are equal
on all ranks. Only drawn latents are sent.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ssvq.model.ranks import rank, world_size

CELLS_AT_ONCE = 1024  # a block of distances to 512 codes, 2 MiB, stays in the cache
CELLS_AT_ONCE_ON_GPU = 65_536  # 128 MiB: small blocks would leave most of a GPU idle
KMEANS_SAMPLE = 16_384  # latents
SMOOTHING = 1e-5  # Laplace smoothing of the moving counts, as in VQ-VAE


class Codebook(nn.Module):
    """`codes`: float32 (K, D). With `learned_by_gradient` it is a parameter, else it follows moving averages."""

    codes: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, codes: int, dimensions: int, *, learned_by_gradient: bool, decay: float = 0.99) -> None:
        super().__init__()
        start = torch.empty(codes, dimensions).uniform_(-1 / codes, 1 / codes)
        if learned_by_gradient:
            self.codes = nn.Parameter(start)
        else:
            self.register_buffer("codes", start)
        self.decay = decay
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", start.detach().clone())

    def assign(self, latents: Tensor) -> Tensor:
        """Index of the nearest code (Eq. 1) of each latent (cells, D): int64 (cells,)."""
        return torch.cat([_nearness(block, self.codes).argmin(1) for block in _blocks(latents)])

    def squared_distance(self, latents: Tensor) -> Tensor:
        """Squared distance of each latent (cells, D) to its nearest code: float32 (cells,)."""
        return nearest_squared_distance(latents, self.codes)

    @torch.no_grad()
    def start_from(self, latents: Tensor, seed: int, sample: int = KMEANS_SAMPLE) -> None:
        """Run k-means over at most `sample` latents (cells, D) of all ranks together; the moving averages start from
        it, with all latents.
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(latents) * world_size(), generator=generator)
        drawn = _drawn(latents, order[:sample])
        if rank() == 0:
            from sklearn.cluster import KMeans  # takes a second to load, which a scoring actor need not spend

            points = _at_least(drawn.cpu(), len(self.codes), generator).numpy()
            kmeans = KMeans(len(self.codes), n_init=1, max_iter=20, random_state=seed).fit(points)
            self.codes.copy_(torch.from_numpy(kmeans.cluster_centers_))
        self._broadcast()
        self.counts.copy_(self.usage(latents, self.assign(latents))[0])
        self.sums.copy_(self.codes * self.counts[:, None])

    @torch.no_grad()
    def usage(self, latents: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """How often each code was assigned over all ranks, float32 (K,), and the sum of its latents, float32 (K, D).

        Takes this rank's latents (cells, D) and their codes.
        """
        counts = torch.bincount(indices, minlength=len(self.codes)).to(self.counts)
        sums = torch.zeros_like(self.sums).index_add_(0, indices, latents.to(self.sums))
        if world_size() > 1:
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        return counts, sums

    @torch.no_grad()
    def follow(self, counts: Tensor, sums: Tensor) -> None:
        """One step of the moving averages, from the usage of a training step."""
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        total = self.counts.sum()
        smoothed = (self.counts + SMOOTHING) / (total + len(self.codes) * SMOOTHING) * total
        self.codes.copy_(self.sums / smoothed[:, None])

    @torch.no_grad()
    def reseed_dead(self, latents: Tensor, dead_below: float, seed: int) -> int:
        """Re-seed codes used less than `dead_below` of the mean from latents (cells, D) drawn over all ranks.
        Returns their number.
        """
        mean = self.counts.mean()
        dead = self.counts < dead_below * mean
        number = int(dead.sum())  # equal on every rank, as the counts are
        if number == 0:
            return 0
        generator = torch.Generator().manual_seed(seed)
        positions = torch.randint(len(latents) * world_size(), (number,), generator=generator)
        self.codes[dead] = _drawn(latents, positions).to(self.codes)
        self.counts[dead] = mean
        self.sums[dead] = self.codes[dead] * mean
        self._broadcast()
        return number

    def _broadcast(self) -> None:
        if world_size() > 1:
            for tensor in (self.codes.data, self.counts, self.sums):
                dist.broadcast(tensor, src=0)


def nearest_squared_distance(latents: Tensor, codes: Tensor) -> Tensor:
    """Squared distance of each latent (cells, D) to the nearest of codes (K, D): float32 (cells,)."""
    blocks = _blocks(latents)
    return torch.cat([block.square().sum(1) + _nearness(block, codes).amin(1) for block in blocks]).clamp_min_(0)


def _nearness(block: Tensor, codes: Tensor) -> Tensor:
    """|e|^2 - 2 z.e of latents (cells, D) to every code, which is |z - e|^2 minus |z|^2.

    In fp32 also under autocast, since it is a small difference of large numbers; a GPU adds three bf16 products to that
    accuracy.
    """
    codes = codes.detach()
    in_halves = block.is_cuda and torch.is_autocast_enabled("cuda")
    with torch.autocast(block.device.type, enabled=False):
        if in_halves:
            left, right = bf16_factors(block, codes)
            return torch.mm(left, right.T, torch.float32)
        return torch.addmm(codes.square().sum(1), block, codes.T, alpha=-2)


def bf16_factors(latents: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Two bf16 matrices (cells, F) and (K, F) whose product, added in fp32, is |e|^2 - 2 z.e of latents (cells, D) and
    codes (K, D), accurate to about 2^-16 of |z| |e|.

    The matrix units of a GPU compute it many times faster than a product in fp32. The sum of two bf16 numbers
    represents a number to 16 bits, so z.e is z1.e1 + z1.e2 + z2.e1; |e|^2 is the sum of three.
    """
    first, second = in_bf16(latents, 2)
    codes_1, codes_2 = in_bf16(-2 * codes, 2)
    norms = torch.stack(in_bf16(codes.square().sum(1), 3), dim=1)
    ones = latents.new_ones(len(latents), norms.shape[1], dtype=torch.bfloat16)
    left = torch.cat([first, first, second, ones], dim=1)
    right = torch.cat([codes_1, codes_2, codes_1, norms], dim=1)
    unfilled = -left.shape[1] % 8  # matrix units take rows of 16 bytes
    return F.pad(left, (0, unfilled)), F.pad(right, (0, unfilled))


def in_bf16(values: Tensor, parts: int) -> list[Tensor]:
    """bf16 tensors whose sum is nearly `values`, the largest first."""
    found: list[Tensor] = []
    for _ in range(parts):
        found.append(values.to(torch.bfloat16))
        values = values - found[-1].float()
    return found


def _blocks(latents: Tensor) -> tuple[Tensor, ...]:
    """Latents (cells, D) in float32, in blocks whose distances to all codes fit the cache."""
    latents = latents.detach().float()
    if torch.compiler.is_exporting():  # their number is unknown, and a graph has no loop over them
        return (latents,)
    return latents.split(CELLS_AT_ONCE_ON_GPU if latents.is_cuda else CELLS_AT_ONCE)


def _drawn(latents: Tensor, positions: Tensor) -> Tensor:
    """The latents (n, D) at positions int64 (n,) among those of all ranks, in order of rank. All ranks hold equally
    many.
    """
    positions = positions.to(latents.device)
    if world_size() == 1:
        return latents[positions]
    mine = positions // len(latents) == rank()
    drawn = latents.new_zeros(len(positions), latents.shape[1])
    drawn[mine] = latents[positions[mine] % len(latents)]
    dist.all_reduce(drawn)  # one rank gives each latent, the others add zero
    return drawn


def _at_least(sample: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Repeat latents with a little noise until there are as many points as clusters."""
    if len(sample) >= number:
        return sample
    repeated = sample[torch.randint(len(sample), (number,), generator=generator)]
    return repeated + 1e-3 * torch.randn(repeated.shape, generator=generator)
