"""`ssvq export-model`: a bundle in, an ONNX file out. No cluster or GPU is needed."""

from ssvq.errors import ExitCode, InputError
from ssvq.extras import require
from ssvq.handover.settings import ExportModelConfig
from ssvq.io import storage
from ssvq.scores.objects import put_output


def export_model(config: ExportModelConfig) -> ExitCode:
    """Write the file, once onnxruntime has given the scorer's scores with it.

    Raises InputError for a missing extra, a bundle that is not whole, a method that ONNX has no operators for, and an
    output that cannot be written.
    """
    require("onnx", "onnx", "onnxscript", "onnxruntime", purpose="ssvq export-model")
    if storage.is_folder(config.out):
        raise InputError(f"--out {config.out} is a folder: give a file, such as {config.out}/model.onnx")
    storage.check_writable(config.out.rpartition("/")[0], "--out")
    # torch takes seconds to load.
    from ssvq.handover.onnx_graph import EXAMPLES, INPUT, compare_with_scorer, encode_onnx
    from ssvq.inference.scorer import TileScorer
    from ssvq.model.bundle import read_description

    bundle = read_description(config.model)
    scorer = TileScorer.from_bundle(config.model, EXAMPLES + 1, "cpu", "fp32")
    data = encode_onnx(scorer.method, bundle, f"--model {config.model}")
    difference = compare_with_scorer(data, scorer)
    scorer.close()
    put_output(config.out, data, config.out)
    side = bundle.preprocessing.tile_size
    print(f"{config.out}: model {bundle.model_id} ({bundle.method}), {len(data) / 1e6:.1f} MB")
    print(f"input: {INPUT}, uint8 (batch, {side}, {side}, 3)")
    print(f"checked: onnxruntime and ssvq differ by {difference:.1g} of a score")
    return ExitCode.DONE
