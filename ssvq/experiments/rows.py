"""The rows of a comparison: methods, and variants of ss-VQ-VAE, each with its settings of `ssvq train`."""

from dataclasses import dataclass, field
from typing import Any

from ssvq.methods.registry import METHODS
from ssvq.model.encoders import PACKAGED

OURS = "ss-vq-vae"


@dataclass(frozen=True, eq=False)
class Row:
    """One line of a table."""

    name: str
    """Its name in `--methods` and in file names."""
    label: str
    """Its name for people."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of `ssvq train`."""
    uses_anomalies: bool = True
    """Otherwise it is trained without labelled anomalies, and is the same at every supervision level."""


def _method(name: str, label: str, *, uses_anomalies: bool = True) -> Row:
    return Row(name, label, {"method": name}, uses_anomalies)


_NAMED = (
    _method(OURS, "ss-VQ-VAE"),
    Row("vq-vae", "VQ-VAE", {"method": OURS}, uses_anomalies=False),
    _method("ss-gvae", "ss-gVAE"),
    _method("deep-sad", "Deep SAD"),
    _method("ssad-hybrid", "SSAD-hybrid"),
    _method("ss-dcae", "ss-DCAE"),
    _method("ss-vae", "ss-VAE"),
    _method("differnet", "DifferNet", uses_anomalies=False),
    _method("deep-svdd", "Deep SVDD", uses_anomalies=False),
    _method("oc-svm", "OC-SVM", uses_anomalies=False),
    _method("oc-svm-hybrid", "OC-SVM-hybrid", uses_anomalies=False),
    _method("ssad", "SSAD"),
    Row(
        "patch-knn",
        "nearest normal cell",
        {"method": "patch-knn", "architecture": {"encoder": PACKAGED}},
        uses_anomalies=False,
    ),
    _method("classifier", "classifier"),
)
METHOD_ROWS = _NAMED + tuple(
    _method(name, name) for name in METHODS if name not in {row.settings["method"] for row in _NAMED}
)
"""The paper's methods in the order of its Table I, those without figures there, the supervised reference, and later
additions.
"""


def _variant(name: str, label: str, **settings: Any) -> Row:
    return Row(name, label, {"method": OURS, **settings})


ABLATION_ROWS = (
    METHOD_ROWS[0],
    _variant("a1", "A1: no reconstruction", objective={"terms": "no-reconstruction"}),
    _variant("a2", "A2: no codebook, no commitment", objective={"terms": "no-codebook"}),
    Row("ss-vae", "no vector quantisation (ss-VAE)", {"method": "ss-vae"}),
    _variant("no-kmeans", "no k-means at the start", codebook={"kmeans": False}),
    _variant("no-averages", "codes by gradient", codebook={"moving_averages": False}),
    _variant("no-reseeding", "no re-seeding of dead codes", codebook={"reseed_every": None}),
    _variant("no-whitening", "colours as they are", architecture={"whiten_colours": False}),
)

SENSITIVITY_ROWS = (
    *(_variant(f"beta-{beta:g}", f"beta {beta:g}", objective={"beta": beta}) for beta in (0.1, 0.5, 1.0, 1.5, 2.0)),
    *(
        _variant(f"eta-{eta:g}", f"eta {eta:g}{' (anomalous term negated)' if eta > 1 else ''}", objective={"eta": eta})
        for eta in (0.01, 0.1, 0.5, 1.0, 10.0, 100.0)
    ),
)
"""The paper's ranges. Above 1, eta makes the weight of the anomalous term negative: it is run, and marked."""

LATENT_ROWS = tuple(row for row in METHOD_ROWS if row.name in (OURS, "deep-sad"))
