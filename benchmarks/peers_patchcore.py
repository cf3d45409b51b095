"""PatchCore of anomalib on tiles that `benchmarks.peers` has saved; run by a Python that has anomalib."""

import json
import sys
import time
import types
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

try:
    import torchvision  # noqa: F401
except RuntimeError:  # of another build of torch: its compiled operators are not needed
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")

from anomalib.models.image.patchcore.torch_model import PatchcoreModel  # type: ignore[import-not-found]
from safetensors.torch import load_file

BATCH = 16


def main(folder: Path) -> None:
    """Fit, score, and save what came of it."""
    settings = json.loads((folder / "settings.json").read_text())
    train, test = (np.load(folder / f"{name}.npy") for name in ("train", "test"))
    mean, std = (torch.tensor(settings[name])[:, None, None] for name in ("mean", "std"))

    def batches(tiles: np.ndarray) -> list[torch.Tensor]:
        return [torch.from_numpy(tiles[start : start + BATCH]) for start in range(0, len(tiles), BATCH)]

    def halved(tiles: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d((tiles.permute(0, 3, 1, 2).float() / 255 - mean) / std, 2)

    started = time.perf_counter()
    model = PatchcoreModel(layers=[2, 3], backbone="tf_efficientnet_lite0", pre_trained=False)
    network = model.feature_extractor.feature_extractor
    lacking = network.load_state_dict(load_file(folder / "weights.safetensors"), strict=False).missing_keys
    assert not lacking, lacking
    model.train()
    network.eval()
    for batch in batches(train):
        model(halved(batch))
    cells = sum(len(some) for some in model.embedding_store)
    model.subsample_embedding(min(1, settings["cells"] / cells))
    fitted = time.perf_counter()
    model.eval()
    found = [model(halved(batch)) for batch in batches(test)]
    scored = time.perf_counter()
    means = torch.cat([result.anomaly_map.flatten(1).mean(1) for result in found])
    worst = torch.cat([result.pred_score.flatten() for result in found])
    np.save(folder / "scores.npy", torch.stack([means, worst]).double().numpy())
    (folder / "times.json").write_text(json.dumps({"fitting": fitted - started, "scoring": scored - fitted}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
