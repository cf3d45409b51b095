"""A manifest of the magnetic tiles with the part of each photograph as its group, for `ssvq experiment --data`.

    python -m benchmarks.magnetic_parts ../shared/data/magnetic_tile magnetic_parts.csv

The names are expA_num_B: exposure A, frame B. The frames of one part follow each other with rising exposures, so a
part begins where the exposure does not rise or frames are far apart. No two photographs share a B.
"""

import argparse
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

PART_GAP = 150  # frames between photographs of different parts


def main() -> None:
    """Write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the magnetic tiles, in the MVTec AD layout")
    parser.add_argument("out", type=Path, help="CSV file to write")
    arguments = parser.parse_args()
    pyarrow.csv.write_csv(pa.Table.from_pylist(parts(arguments.data.resolve())), arguments.out)


def parts(root: Path) -> list[dict[str, str]]:
    """Rows of the manifest: image, mask, label and group."""
    rows = []
    for path in sorted([*root.glob("train/good/*.jpg"), *root.glob("test/*/*.jpg")]):
        exposure, frame = map(int, re.fullmatch(r"exp(\d+)_num_(\d+)", path.stem).groups())  # type: ignore[union-attr]
        label = path.parent.name
        mask = root / "ground_truth" / label / f"{path.stem}_mask.png"
        rows.append((frame, exposure, str(path), str(mask) if label != "good" else "", label))
    rows.sort()
    part, manifest = 0, []
    for before, row in zip([rows[0], *rows], rows, strict=False):
        part += row[0] - before[0] > PART_GAP or row[1] <= before[1]
        manifest.append({"image": row[2], "mask": row[3], "label": row[4], "group": str(part)})
    return manifest


if __name__ == "__main__":
    main()
