"""Settings of `ssvq export-model`."""

from typing import Literal

from ssvq.settings import Command, Location, Output


class ExportModelConfig(Command):
    """Write a trained model with its preprocessing as one ONNX file, and its model card beside it."""

    model: Location
    """Bundle that `ssvq train --out` wrote."""

    out: Output
    """File to write, local or s3://, such as handover/model.onnx. The model card is README.md in the same folder."""

    format: Literal["onnx"] = "onnx"
    """onnx: for onnxruntime, TensorRT, OpenVINO and others."""
