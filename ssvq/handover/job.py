"""`ssvq export-model`: writes a bundle as an ONNX file with its model card. It needs no cluster and no GPU."""

import re

from ssvq import logs
from ssvq.errors import ExitCode, InputError
from ssvq.extras import require
from ssvq.handover.settings import ExportModelConfig
from ssvq.io import storage
from ssvq.model.bundle import CARD, read_description
from ssvq.model.card import render_card
from ssvq.model.description import Bundle
from ssvq.scores.objects import put_output


def export_model(config: ExportModelConfig) -> ExitCode:
    """Write the file, after onnxruntime has given the scorer's scores with it.

    Raises InputError for a missing extra, an incomplete bundle, a method that ONNX cannot express, and an output that
    cannot be written.
    """
    require("onnx", "onnx", "onnxscript", "onnxruntime", purpose="ssvq export-model")
    if storage.is_folder(config.out):
        raise InputError(f"--out {config.out} is a folder: give a file, such as {config.out}/model.onnx")
    storage.check_writable(config.out.rpartition("/")[0], "--out")
    # torch takes seconds to load.
    from ssvq.handover.onnx_graph import EXAMPLES, INPUT, compare_with_scorer, encode_onnx
    from ssvq.inference.scorer import TileScorer

    bundle = read_description(config.model)
    scorer = TileScorer.from_bundle(config.model, EXAMPLES + 1, "cpu", "fp32")
    data = encode_onnx(scorer.method, bundle, f"--model {config.model}")
    difference = compare_with_scorer(data, scorer)
    scorer.close()
    put_output(config.out, data, config.out)
    card = _put_card(config.out, bundle)
    side = bundle.preprocessing.tile_size
    print(f"{config.out}: model {bundle.model_id} ({bundle.method}), {len(data) / 1e6:.1f} MB")
    print(f"input: {INPUT}, uint8 (batch, {side}, {side}, 3)")
    print(f"checked: onnxruntime and ssvq differ by {difference:.1g} of a score")
    if card is not None:
        print(f"model card: {card}")
    return ExitCode.DONE


def _put_card(out: str, bundle: Bundle) -> str | None:
    """Write the model card beside a file. An existing README.md that is no card of this model stays."""
    folder, _, name = out.rpartition("/")
    address = storage.join(folder, CARD)
    try:
        there = storage.read_bytes(address).decode(errors="replace")
    except FileNotFoundError:
        there = None
    if there is not None and not re.search(rf"^model_id: '?{bundle.model_id}'?$", there, re.M):
        what = f"{address} is there and is of something else"
        logs.warning(f"warning: no model card: {what}; give --out a folder of its own")
        return None
    if there is None or name in there:  # otherwise it is that of the bundle itself
        put_output(address, render_card(bundle, onnx=name).encode(), out)
    return address
