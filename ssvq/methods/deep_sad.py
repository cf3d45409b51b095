"""Deep SAD (Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020, Eq. 7): Deep SVDD whose labelled
anomalies are far from the centre, by the inverse of their distance. Without labelled anomalies it is Deep SVDD.
"""

import torch
from torch import Tensor

from ssvq.methods.deep_svdd import DeepSVDD

LEAST_DISTANCE = 1e-6  # added to a distance before it is inverted, as its authors do


class DeepSAD(DeepSVDD):
    """The inverse is bounded below by 0, so that the loss stands as published."""

    anomalies = "optional"

    def own_loss(self, normal: Tensor, anomalous: Tensor) -> dict[str, Tensor]:
        """Eq. 7: the sum of the distances of n normal samples, plus eta times that of the inverse distances of m
        anomalous ones, by n + m; and the decay of the weights.
        """
        n, m = len(normal), len(anomalous)
        distance = self.squared_distance(torch.cat([normal, anomalous]))
        parts = {"normal": distance[:n].mean()}
        loss = distance[:n].sum() / (n + m)
        if m:
            parts["anomalous"] = (distance[n:] + LEAST_DISTANCE).reciprocal().mean()
            parts["anomalous_distance"] = distance[n:].mean()
            loss = loss + self.hypersphere.eta * parts["anomalous"] * m / (n + m)
        return {"loss": loss + self.decay(), **parts}
