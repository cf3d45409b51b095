"""A model as an ONNX graph: the steps of the scorer, from 8-bit pixels to scores, in float32."""

import contextlib
import io
import json
import logging
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssvq.errors import InputError, one_line
from ssvq.inference.scorer import TileScorer, normalise, worst_cells
from ssvq.methods.base import Method
from ssvq.model.description import Bundle, Preprocessing

INPUT = "pixels"
OUTPUTS = ("score", "score_worst", "cell_distances")
BATCH = "batch"  # name of the dynamic dimension
MOST_BYTES = 2**31 - 2**24  # bytes of weights: a protobuf message ends at 2 GiB
EXAMPLES = 2  # tiles in the traced batch: with 1 the exporter would fix the batch size
TOLERANCE = 1e-3  # share of the largest value of an output
DESCRIPTIONS = {
    INPUT: "tiles as 8-bit RGB",
    "score": "score of each tile",
    "score_worst": "score of the worst cells of each tile",
    "cell_distances": "distance of each latent cell from what is normal",
}


class ScoringGraph(nn.Module):
    """Maps tiles uint8 (n, t, t, 3) to `score` (n,), `score_worst` (n,) and `cell_distances` (n, t / cell, t / cell),
    all float32; for a method without cells, to `score` only.

    All pixels of a tile count as valid.
    """

    def __init__(self, method: Method, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.method, self.preprocessing = method, preprocessing

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in the order of OUTPUTS."""
        score, cells = self.method.score(normalise(pixels, self.preprocessing))
        if cells is None:
            return (score.float(),)
        cells = cells.float()
        return score.float(), worst_cells(cells, None)[1], cells


def encode_onnx(method: Method, bundle: Bundle, setting: str) -> bytes:
    """The ONNX file of a method on the CPU, with the bundle's description in its metadata. `setting`: the setting that
    gave the bundle.

    Raises InputError for a method that ONNX cannot express, and for one too large for a file.
    """
    size = sum(tensor.nbytes for tensor in method.state_dict().values())
    if size > MOST_BYTES:
        raise InputError(f"{setting} has {size / 1e9:.1f} GB of weights, and an ONNX file holds 2 GB")
    side = bundle.preprocessing.tile_size
    example = torch.zeros((EXAMPLES, side, side, 3), dtype=torch.uint8)
    graph = ScoringGraph(method, bundle.preprocessing).eval()
    with torch.no_grad():
        outputs = OUTPUTS[: len(graph(example))]
        try:
            with _quiet():
                program = torch.onnx.export(
                    graph,
                    (example,),
                    input_names=[INPUT],
                    output_names=list(outputs),
                    dynamic_shapes={INPUT: {0: BATCH}},
                    dynamo=True,
                    verbose=False,
                )
        except torch.onnx.OnnxExporterError as error:
            raise InputError(
                f"{setting}: method {bundle.method} cannot be exported as ONNX: {_reason(error)}"
            ) from None
    assert program is not None
    proto = program.model_proto
    proto.producer_name, proto.producer_version = "ssvq", bundle.ssvq_version
    for value in (*proto.graph.input, *proto.graph.output):
        value.doc_string = DESCRIPTIONS[value.name]
    for name, text in metadata(bundle).items():
        proto.metadata_props.add(key=name, value=text)
    data: bytes = proto.SerializeToString()
    return data


def metadata(bundle: Bundle) -> dict[str, str]:
    """What a user of the file must know, as text by name. Other values are JSON."""
    preprocessing, calibration = bundle.preprocessing, bundle.calibration
    columns = {"score": calibration} | ({} if calibration.worst is None else {"score_worst": calibration.worst})
    thresholds = {
        name: {
            "threshold": column.threshold,
            "rule": column.rule,
            "at_false_positive_rate": column.thresholds_at_false_positive_rate,
            "normal_tiles": len(column.normal_scores),
        }
        for name, column in columns.items()
    }
    return {
        "format": "ssvq-onnx",
        "model_id": bundle.model_id,
        "method": bundle.method,
        "encoder": str(bundle.settings.get("architecture", {}).get("encoder", "none")),
        "tile_size": str(preprocessing.tile_size),
        "cell": str(preprocessing.cell),
        "whole_images": json.dumps(preprocessing.whole_images),
        "pixels": preprocessing.pixels.model_dump_json(),
        "decides": calibration.decides,
        "threshold": repr(calibration.deciding.threshold),
        "thresholds": json.dumps(thresholds),
        "anomalous_fraction": repr(bundle.anomalous_fraction),
        "backbone": "none" if bundle.backbone is None else bundle.backbone.model_dump_json(),
        "weights_sha256": bundle.weights_sha256,
        "created_at": bundle.created_at.isoformat(),
        "ssvq_version": bundle.ssvq_version,
    }


def compare_with_scorer(data: bytes, scorer: TileScorer) -> float:
    """Run an ONNX file in onnxruntime and the scorer on the same tiles. Returns the largest difference of an output, as
    a share of its largest value.

    Raises InputError if it exceeds TOLERANCE.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    pixels = sample_tiles(EXAMPLES + 1, scorer.preprocessing)
    found = dict(zip(OUTPUTS, session.run(None, {INPUT: pixels}), strict=False))
    expected = scorer.score(pixels)
    worst = max(
        float(np.abs(found[name] - values).max() / max(np.abs(values).max(), np.finfo(np.float32).tiny))
        for name, values in (("score", expected.score), ("score_worst", expected.score_worst))
        if name in found
    )
    if not worst <= TOLERANCE:
        raise InputError(f"the ONNX file gives other scores than ssvq (by {worst:.2g} of the largest): not written")
    return worst


def sample_tiles(number: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Noise in the colours of the training, with more and less contrast: uint8 (number, t, t, 3)."""
    side = preprocessing.tile_size
    noise = np.random.default_rng(0).standard_normal((number, side, side, 3))
    contrast = np.linspace(0.2, 1, number)[:, None, None, None]
    values = np.array(preprocessing.mean) + contrast * np.array(preprocessing.std) * noise
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


@contextlib.contextmanager
def _quiet() -> Any:
    """Drop what the exporter prints for its developers: graphs, steps, deprecations."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: Exception) -> str:
    """The exporter's reason, without advice for its developers: the message of the innermost cause."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    first = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return one_line(first.strip()[:200]).rstrip(".")
