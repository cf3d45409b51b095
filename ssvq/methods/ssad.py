"""SSAD, convex (Goernitz, Kloft, Rieck and Brefeld, "Toward Supervised Anomaly Detection", JAIR 2013): OC-SVM with
labelled anomalies on the other side of its plane, beyond a margin that is learned.

On pixels, and on the bottleneck of an autoencoder (SSAD-hybrid). Without labelled anomalies it is OC-SVM.

The problem, for n normal samples i, which count as unlabelled there, and m labelled anomalies j, of y_j = -1:

    min over w, rho, g >= 0, xi >= 0 of  1/2 |w|^2 - rho - kappa g + eta_u sum_i xi_i + eta_l sum_j xi_j
    with  w.phi(x_i) >= rho - xi_i,  y_j (w.phi(x_j) - rho) >= g - xi_j

With multipliers a >= 0 of these constraints, and y_i = +1, the Lagrangian is stationary

    in w:    w = sum_i a_i phi(x_i) + sum_j a_j y_j phi(x_j)
    in rho:  sum_i a_i + sum_j y_j a_j = 1
    in g:    sum_j a_j - kappa = the multiplier of g >= 0, so >= 0
    in xi:   a_i <= eta_u,  a_j <= eta_l

and what is left of it, -1/2 |w|^2, is to be largest. So the dual is

    min over a of  1/2 a'(K o yy')a  with  y'a = 1,  sum_j a_j >= kappa,  0 <= a_i <= eta_u,  0 <= a_j <= eta_l

The bounds here are

    eta_u = (1 + kappa) / (nu n),  eta_l = max(1, kappa) / (nu m)

Where the classes are apart, g > 0, so that sum_j a_j = kappa and sum_i a_i = 1 + kappa, and nu bounds the share of the
normal samples that are outside (each has a_i = eta_u) as it does in OC-SVM, and that of the anomalies that are short
of the margin. And there is an a for every nu <= 1 and every kappa; with the eta_u = 1 / (nu n) of OC-SVM there would
be none where 1 / nu < 1 + kappa. Without anomalies kappa is 0, and the two are the same.
"""

import numpy as np
import piqp

from ssvq.methods.kernel import OnLatents, OnPixels

LEAST_WEIGHT = 1e-8  # of the largest weight: the solver stays above 0 by less than this where 0 is meant
AT_BOUND = 1e-4  # of its bound, within which a weight counts as being at it
RIDGE = 1e-6  # added to the kernel of a sample with itself, which is 1: samples that are alike make the matrix singular


class SSAD(OnPixels):
    """SSAD on pixels."""

    anomalies = "optional"

    def solve(self, gram: np.ndarray, normal: int) -> tuple[np.ndarray, float]:
        """The machine of the normal samples and the labelled anomalies."""
        return semi_supervised(gram, normal, self.kernel.nu, self.kernel.kappa)


class SSADHybrid(OnLatents):
    """SSAD on the bottleneck of an autoencoder."""

    anomalies = "optional"

    def solve(self, gram: np.ndarray, normal: int) -> tuple[np.ndarray, float]:
        """The machine of the normal samples and the labelled anomalies."""
        return semi_supervised(gram, normal, self.kernel.nu, self.kernel.kappa)


def semi_supervised(gram: np.ndarray, normal: int, nu: float, kappa: float) -> tuple[np.ndarray, float]:
    """Weights y a, float64 (n + m,), and rho, of the kernels (n + m, n + m) of n = `normal` samples and m anomalies."""
    labels = np.ones(len(gram))
    labels[normal:] = -1
    anomalous = len(gram) - normal
    kappa = kappa if anomalous else 0.0
    bounds = np.full(len(gram), (1 + kappa) / (nu * normal))
    bounds[normal:] = max(1, kappa) / (nu * max(1, anomalous))

    weights = labels * solve_dual(gram, labels, bounds, kappa)
    weights[np.abs(weights) <= LEAST_WEIGHT * np.abs(weights).max()] = 0
    return weights, plane(gram[:normal] @ weights, weights[:normal], bounds[0])


def solve_dual(gram: np.ndarray, labels: np.ndarray, bounds: np.ndarray, kappa: float) -> np.ndarray:
    """The a of the dual, float64 (n + m,).

    Raises RuntimeError where the solver ends without it.
    """
    solver = piqp.DenseSolver()
    solver.setup(
        P=np.asfortranarray(gram * np.outer(labels, labels) + RIDGE * np.eye(len(gram))),
        c=np.zeros(len(gram)),
        A=np.asfortranarray(labels[None]),
        b=np.ones(1),
        G=np.asfortranarray(labels[None] < 0, dtype=np.float64),
        h_l=np.array([kappa]),
        x_l=np.zeros(len(gram)),
        x_u=bounds,
    )
    status = solver.solve()
    if status != piqp.PIQP_SOLVED:
        normal = int((labels > 0).sum())
        raise RuntimeError(
            f"SSAD was not solved for {normal} normal and {len(labels) - normal} anomalous samples ({status.name}): "
            "try another kernel.nu or kernel.kappa"
        )
    return np.array(solver.result.x)


def plane(projections: np.ndarray, weights: np.ndarray, bound: float) -> float:
    """rho, of the projections w.phi(x_i) and the weights of the normal samples: those of a weight inside its bounds lie
    on the plane. Where none is, rho is the least that the conditions of optimality allow, that of the farthest inside
    of those at their bound.
    """
    slack = AT_BOUND * bound
    inside = (weights > slack) & (weights < bound - slack)
    if inside.any():
        return float(projections[inside].mean())
    return float(projections[weights > 0].max())
