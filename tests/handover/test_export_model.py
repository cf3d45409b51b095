"""`ssvq export-model`: the ONNX file gives the scorer's scores and says what it is; wrong input is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssvq.cli import main
from ssvq.errors import ExitCode, InputError
from ssvq.handover import onnx_graph
from ssvq.inference.scorer import TileScorer, normalise
from ssvq.io import storage
from ssvq.model.bundle import read_description
from ssvq.model.card import render_card
from ssvq.model.description import Preprocessing
from ssvq.model.encoders import PACKAGED
from ssvq.model.encoders.weights import find_weights
from ssvq.model.settings import Architecture
from tests.support.s3 import s3_bucket, s3_server  # noqa: F401
from tests.support.surveys import TINY, make_bundle, paint

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

BACKBONE = Architecture(encoder=PACKAGED, projection=16, dimensions=8, codes=16)


def tiles_of(number: int, side: int) -> NDArray[np.uint8]:
    """Smooth grey tiles, every second one rough."""
    rng = np.random.default_rng(5)
    return np.stack([paint(rng, side, side, rough=i % 2 == 1)[0] for i in range(number)])


def started(architecture: Architecture, side: int) -> Callable[[Any], None]:
    """Bring a method to where a training begins: pretrained weights, measured colours or features, k-means codes."""

    def prepare(method: Any) -> None:
        if method.backbone is not None:
            method.backbone.load_network(find_weights(architecture).tensors)
        preprocessing = Preprocessing(tile_size=side, mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.2))
        normal = normalise(torch.from_numpy(tiles_of(8, side)[::2]), preprocessing)
        method.eval()
        method.start(normal, seed=0, steps=1)

    return prepare


def export_model(model: Path | str, out: Path | str, *more: str) -> int:
    return main(["export-model", "--model", str(model), "--out", str(out), *more])


def run(file: Path, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(str(file))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"pixels": pixels}), strict=True))


@pytest.mark.parametrize(("architecture", "side"), [(TINY, 32), (BACKBONE, 64)], ids=["paper", "pretrained"])
def test_onnxruntime_gives_the_scorers_scores(
    architecture: Architecture, side: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(
        tmp_path / "model", architecture=architecture, tile_size=side, prepare=started(architecture, side)
    )
    file = tmp_path / "new" / "model.onnx"
    assert export_model(tmp_path / "model", file) == ExitCode.DONE
    said = capsys.readouterr()
    assert f"{file}: model {bundle.model_id} (ss-vq-vae)" in said.out
    assert said.err == "", "what the exporter prints for its developers is kept"
    scorer = TileScorer.from_bundle(str(tmp_path / "model"), 4, "cpu", "fp32")
    cells = side // bundle.preprocessing.cell
    for number in (1, 7):
        pixels = tiles_of(number, side)
        found, expected = run(file, pixels), scorer.score(pixels)
        np.testing.assert_allclose(found["score"], expected.score, rtol=0, atol=1e-3)
        np.testing.assert_allclose(found["score_worst"], expected.score_worst, rtol=0, atol=1e-3)
        assert found["cell_distances"].shape == (number, cells, cells)
        assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}
        assert expected.score_map is not None
        np.testing.assert_allclose(found["cell_distances"], expected.score_map, rtol=2e-3, atol=2e-3)  # half floats
    assert run(file, tiles_of(2, side))["score"].std() > 1e-2, "scores that differ by tile"


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "model")
    assert export_model(tmp_path / "model", tmp_path / "model.onnx") == ExitCode.DONE
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert (said["model_id"], said["method"], said["encoder"]) == (bundle.model_id, "ss-vq-vae", "paper")
    assert (said["tile_size"], said["cell"]) == ("32", "4")
    assert json.loads(said["pixels"]) == {"bands": None, "value_range": None}
    assert float(said["threshold"]) == bundle.calibration.deciding.threshold
    thresholds = json.loads(said["thresholds"])
    assert bundle.calibration.worst is not None
    for name, column in (("score", bundle.calibration), ("score_worst", bundle.calibration.worst)):
        assert thresholds[name]["threshold"] == column.threshold
        assert thresholds[name]["at_false_positive_rate"] == column.thresholds_at_false_positive_rate
    (pixels,) = model.graph.input
    shape = [dimension.dim_param or dimension.dim_value for dimension in pixels.type.tensor_type.shape.dim]
    assert (pixels.name, shape) == ("pixels", ["batch", 32, 32, 3])
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_a_method_without_cells_has_a_score_alone(tmp_path: Path) -> None:
    make_bundle(tmp_path / "model", method="deep-svdd")
    assert export_model(tmp_path / "model", tmp_path / "model.onnx") == ExitCode.DONE
    pixels = tiles_of(3, 32)
    found = run(tmp_path / "model.onnx", pixels)
    assert list(found) == ["score"]
    expected = TileScorer.from_bundle(str(tmp_path / "model"), 4, "cpu", "fp32").score(pixels)
    np.testing.assert_allclose(found["score"], expected.score, atol=1e-3)


def test_a_method_that_has_no_onnx_form_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fit(method: Any) -> None:
        method.support, method.weights = torch.rand(4, 8), torch.rand(4)

    make_bundle(tmp_path / "model", method="oc-svm-hybrid", prepare=fit)
    assert export_model(tmp_path / "model", tmp_path / "model.onnx") == ExitCode.WRONG_INPUT
    said = capsys.readouterr().err
    assert f"--model {tmp_path / 'model'}: method oc-svm-hybrid cannot be exported as ONNX: " in said
    assert "cdist" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "model.onnx").exists()


def test_a_file_that_scores_otherwise_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(tmp_path / "model")
    right = onnx_graph.normalise
    monkeypatch.setattr(onnx_graph, "normalise", lambda pixels, preprocessing: right(pixels, preprocessing) * 1.01)
    assert export_model(tmp_path / "model", tmp_path / "model.onnx") == ExitCode.WRONG_INPUT
    assert "gives other scores than ssvq" in capsys.readouterr().err
    assert not (tmp_path / "model.onnx").exists()


def test_wrong_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(tmp_path / "model")
    file = tmp_path / "model.onnx"
    (tmp_path / "file").touch()

    def said_by(*arguments: str) -> str:
        assert main(list(arguments)) == ExitCode.WRONG_INPUT
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    model = ["export-model", "--model", str(tmp_path / "model"), "--out"]
    assert "is not a finished bundle" in said_by("export-model", "--model", str(tmp_path), "--out", str(file))
    assert f"{tmp_path} is a folder: give a file" in said_by(*model, str(tmp_path))
    assert "cannot be written" in said_by(*model, str(tmp_path / "file" / "model.onnx"))
    assert "--format" in said_by(*model, str(file), "--format", "pt2")
    other = said_by("export", str(tmp_path), "--format", "onnx", "--out", str(file))
    assert "`ssvq export-model` writes a model as ONNX" in other
    monkeypatch.setattr("ssvq.extras.find_spec", lambda name: None if name == "onnxscript" else object())
    assert "ssvq export-model needs onnxscript: pip install 'ssvq[onnx]'" in said_by(*model, str(file))
    assert not file.exists()


def test_a_model_on_s3(s3_bucket: str, tmp_path: Path) -> None:  # noqa: F811
    make_bundle(tmp_path / "model")
    for name in ("bundle.json", "model.safetensors"):
        storage.put(f"{s3_bucket}/onnx/{name}", (tmp_path / "model" / name).read_bytes())
    out = f"{s3_bucket}/onnx/model.onnx"
    assert export_model(f"{s3_bucket}/onnx", out) == ExitCode.DONE
    (tmp_path / "model.onnx").write_bytes(storage.read_bytes(out))
    assert run(tmp_path / "model.onnx", tiles_of(2, 32))["score"].shape == (2,)


def test_weights_that_no_file_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bundle(tmp_path)
    monkeypatch.setattr(onnx_graph, "MOST_BYTES", 1000)
    scorer = TileScorer.from_bundle(str(tmp_path), 4, "cpu", "fp32")
    with pytest.raises(InputError, match=r"--model x has 0\.0 GB of weights"):
        onnx_graph.encode_onnx(scorer.method, read_description(str(tmp_path)), "--model x")


def test_the_model_card_lies_beside_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "model")
    folder = tmp_path / "handover"
    for _ in range(2):  # the second time it is its own card that is there
        assert export_model(tmp_path / "model", folder / "model.onnx") == ExitCode.DONE
        said = capsys.readouterr()
        assert f"model card: {folder / 'README.md'}" in said.out
        assert said.err == ""
    text = (folder / "README.md").read_text()
    assert bundle.model_id in text
    assert 'InferenceSession("model.onnx")' in text


def test_another_readme_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_bundle(tmp_path / "model")
    (tmp_path / "README.md").write_text("# Our repository\n")
    assert export_model(tmp_path / "model", tmp_path / "model.onnx") == ExitCode.DONE
    assert (tmp_path / "README.md").read_text() == "# Our repository\n"
    said = capsys.readouterr()
    assert f"no model card: {tmp_path / 'README.md'} is there and is of something else" in said.err
    assert "model card:" not in said.out


def test_in_the_bundles_folder_the_bundles_card_stays(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    (tmp_path / "README.md").write_text(render_card(bundle))
    assert export_model(tmp_path, tmp_path / "m.onnx") == ExitCode.DONE
    assert (tmp_path / "README.md").read_text() == render_card(bundle)
