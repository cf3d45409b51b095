"""The methods by name. Nothing here imports torch."""

from typing import TYPE_CHECKING, Literal

METHODS = {
    "ss-vq-vae": "ss_vqvae:SSVQVAE",
    "deep-svdd": "deep_svdd:DeepSVDD",
    "deep-sad": "deep_sad:DeepSAD",
    "ss-dcae": "ss_dcae:SSDCAE",
    "ss-vae": "ss_vae:SSVAE",
    "ss-gvae": "ss_gvae:SSGVAE",
    "differnet": "differnet:DifferNet",
    "oc-svm": "oc_svm:OCSVM",
    "oc-svm-hybrid": "oc_svm:OCSVMHybrid",
    "ssad": "ssad:SSAD",
    "ssad-hybrid": "ssad:SSADHybrid",
    "patch-knn": "patch_knn:PatchKnn",
    "classifier": "classifier:Classifier",
}
"""Module and class by name. A module is imported when its method is asked for: the libraries that all of them need
together take seconds to load, in every process of a job.
"""

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[tuple(METHODS)]
