"""OC-SVM (Schoelkopf et al., "Estimating the Support of a High-Dimensional Distribution", Neural Computation 2001,
Eq. 3.4 and 3.5): the half-space, far from the origin in the space of the kernel, that holds most normal samples.

On pixels, and on the bottleneck of an autoencoder (OC-SVM-hybrid). Labelled anomalous samples are not used.
"""

import numpy as np
from sklearn.svm import OneClassSVM

from ssvq.methods.kernel import OnLatents, OnPixels


class OCSVM(OnPixels):
    """OC-SVM on pixels."""

    anomalies = "unused"

    def solve(self, gram: np.ndarray, normal: int) -> tuple[np.ndarray, float]:
        """The one-class machine of all samples."""
        return one_class(gram, self.kernel.nu)


class OCSVMHybrid(OnLatents):
    """OC-SVM on the bottleneck of an autoencoder."""

    anomalies = "unused"

    def solve(self, gram: np.ndarray, normal: int) -> tuple[np.ndarray, float]:
        """The one-class machine of all samples."""
        return one_class(gram, self.kernel.nu)


def one_class(gram: np.ndarray, nu: float) -> tuple[np.ndarray, float]:
    """Weights float64 (n,) and offset of the machine of kernels (n, n), as scikit-learn scales them: nu n times those
    published, so that the score is minus scikit-learn's decision function.
    """
    machine = OneClassSVM(kernel="precomputed", nu=nu).fit(gram)
    weights = np.zeros(len(gram))
    weights[machine.support_] = machine.dual_coef_[0]
    return weights, float(machine.offset_[0])
