"""Files of label tools as labels: what they draw becomes the mask of the image that they name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from ssvq.errors import ImageError, InputError
from ssvq.imagery.annotations.brush import decode_brush, encode_brush
from ssvq.imagery.annotations.names import ImageNames
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.classes import read_classes
from ssvq.imagery.layouts import find_images
from ssvq.imagery.runs import Runs, lengths_of, lengths_within
from ssvq.imagery.settings import LabelledImages
from tests.support.images import write_image

WIDTH, HEIGHT = 40, 30
MASKS = st.integers(1, 9).flatmap(
    lambda width: st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=9)
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three pictures: a.png, b.png and more/c.png."""
    for name in ("a.png", "b.png", "more/c.png"):
        write_image(tmp_path / "images" / name, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return tmp_path / "images"


def labelled(images: Path, file: Path, **settings: Any) -> dict[str, SourceImage]:
    """The labelled images by path. A failure of one is raised."""
    found, failed = find_images(LabelledImages(images=str(images), annotations=str(file), **settings))
    for _, error in failed:
        raise error
    return {image.path: image for image in found}


def mask_of(image: SourceImage) -> NDArray[np.bool_]:
    classes = read_classes(image, 0, 0, WIDTH, HEIGHT)
    assert classes is not None
    return classes > 0


def box_mask(x: int, y: int, width: int, height: int) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + height, x : x + width] = True
    return mask


def put(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# COCO, as https://cocodataset.org/#format-data has it


def coco(*annotations: dict[str, Any]) -> dict[str, Any]:
    return {
        "info": {},
        "images": [
            {"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
            {"id": 8, "file_name": "more/c.png", "width": WIDTH, "height": HEIGHT},
        ],
        "categories": [{"id": 1, "name": "rust", "supercategory": ""}, {"id": 2, "name": "good"}],
        "annotations": [{"id": 5, "image_id": 7, "category_id": 1, "iscrowd": 0, **one} for one in annotations],
    }


def test_coco_polygons_boxes_and_run_lengths(images: Path, tmp_path: Path) -> None:
    drawn = np.zeros((HEIGHT, WIDTH), bool)
    drawn[3:9, 30:38] = True
    drawn[5:7, 32:35] = False
    compressed = coco_mask.encode(np.asfortranarray(drawn.astype(np.uint8)))
    file = coco(
        {"segmentation": [[2, 3, 12, 3, 12, 8, 2, 8]]},
        {"segmentation": [], "bbox": [20, 20, 5, 4]},
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": compressed["counts"].decode()}},
    )
    found = labelled(images, put(tmp_path / "a.json", file))
    assert set(found) == {"a.png", "more/c.png"}, "an image that the file does not list is left out"
    np.testing.assert_array_equal(mask_of(found["a.png"]), box_mask(2, 3, 10, 5) | box_mask(20, 20, 5, 4) | drawn)
    assert (found["a.png"].label, found["more/c.png"].label) == ("rust", "good")


@given(MASKS)
def test_run_lengths_are_those_of_pycocotools(rows: list[list[bool]]) -> None:
    mask = np.array(rows, bool)
    height, width = mask.shape
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert Runs.of_mask(mask).counts == theirs
    found = Runs(theirs, 0, 0, width, height).read(np.arange(width), np.arange(height))
    np.testing.assert_array_equal(found, mask)


@given(MASKS, st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_a_mask_within_a_picture(
    rows: list[list[bool]], left: int, top: int, right: int, below: int, by_rows: bool
) -> None:
    mask = np.array(rows, bool)
    whole = np.pad(mask, ((top, below), (left, right)))
    size = whole.shape[1], whole.shape[0]
    found = lengths_within(mask, (left, top), size, by_rows=by_rows)
    assert found.tolist() == lengths_of(whole if by_rows else whole.T).tolist()


# CVAT, as https://docs.cvat.ai/docs/dataset_management/formats/format-xml/ has it

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><labels><label><name>rust</name><attributes/></label><label><name>good</name></label></labels></task></meta>
  <image id="0" name="a.png" width="40" height="30">
    <box label="rust" source="manual" occluded="0" xtl="2.00" ytl="3.00" xbr="12.00" ybr="8.00" z_order="0"></box>
    <polygon label="rust" source="manual" points="20.00,20.00;25.00,20.00;25.00,24.00;20.00,24.00" z_order="0">
      <attribute name="depth">2</attribute>
    </polygon>
    <mask label="rust" source="manual" occluded="0" rle="1, 2, 3" left="30" top="10" width="3" height="2" z_order="0"/>
    <polyline label="rust" points="1,1;2,2" z_order="0"/>
  </image>
  <image id="1" name="c.png" width="40" height="30"><tag label="good" source="manual"></tag></image>
</annotations>
"""


def test_cvat_shapes_and_tags(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = labelled(images, put(tmp_path / "a.xml", CVAT))
    expected = box_mask(2, 3, 10, 5) | box_mask(20, 20, 5, 4) | box_mask(31, 10, 2, 1)
    np.testing.assert_array_equal(mask_of(found["a.png"]), expected)
    assert found["more/c.png"].label == "good"
    said = capsys.readouterr().err
    assert "anomalous: rust; normal: good" in said
    assert f"not read from {tmp_path / 'a.xml'}: 1 polyline" in said


def test_entities_are_refused(images: Path, tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "bb">]>' + CVAT.partition("?>")[2]
    with pytest.raises(InputError, match="document type or entities"):
        labelled(images, put(tmp_path / "a.xml", bomb))


# Label Studio, as https://labelstud.io/guide/export and its converter have it


def task(name: str, *results: dict[str, Any], **fields: Any) -> dict[str, Any]:
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    drawn = [{"id": str(i), "from_name": "label", "to_name": "image", **size, **one} for i, one in enumerate(results)]
    return {"id": 1, "data": {"image": name}, "annotations": [{"result": drawn, **fields}], "predictions": []}


def brush(mask: NDArray[np.bool_]) -> dict[str, Any]:
    lengths = [int(length) for length in lengths_of(mask)]
    value = {"format": "rle", "rle": encode_brush(lengths), "brushlabels": ["rust"]}
    return {"type": "brushlabels", "value": value}


def test_label_studio_shapes_and_choices(images: Path, tmp_path: Path) -> None:
    rectangle = {"x": 5, "y": 10, "width": 25, "height": 100 / 6, "rotation": 0, "rectanglelabels": ["rust"]}
    points = [[50, 200 / 3], [62.5, 200 / 3], [62.5, 80], [50, 80]]
    drawn = box_mask(30, 3, 4, 5)
    tasks = [
        task(
            "/data/local-files/?d=photos%2Fa.png",
            {"type": "rectanglelabels", "value": rectangle},
            {"type": "polygonlabels", "value": {"points": points, "closed": True, "polygonlabels": ["rust"]}},
            brush(drawn),
        ),
        task("/data/upload/1/1a2b3c4d-c.png", {"type": "choices", "value": {"choices": ["good"]}}),
        task("s3://bucket/b.png", was_cancelled=True),
    ]
    found = labelled(images, put(tmp_path / "a.json", tasks))
    np.testing.assert_array_equal(mask_of(found["a.png"]), box_mask(2, 3, 10, 5) | box_mask(20, 20, 5, 4) | drawn)
    assert found["more/c.png"].label == "good"
    assert "b.png" not in found, "a skipped task has no labels"


def decode_as_its_converter(rle: list[int]) -> NDArray[np.uint8]:
    """`decode_rle` of Label Studio's converter (Apache-2.0), in its own steps: bytes of the picture, RGBA."""
    text = "".join(f"{byte:08b}" for byte in rle)
    at = 0

    def read(size: int) -> int:
        nonlocal at
        at += size
        return int(text[at - size : at], 2)

    number, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    found = np.zeros(number, np.uint8)
    i = 0
    while i < number:
        repeats = read(1)
        stop = i + 1 + read(sizes[read(2)])
        if repeats:
            found[i:stop] = read(word)
            i = stop
        else:
            while i < stop:
                found[i] = read(word)
                i += 1
    return found


@given(MASKS)
def test_the_brush_is_that_of_label_studio(rows: list[list[bool]]) -> None:
    mask = np.array(rows, bool)
    height, width = mask.shape
    rle = encode_brush([int(length) for length in lengths_of(mask)])
    alpha = decode_as_its_converter(rle).reshape(height, width, 4)[..., 3]
    np.testing.assert_array_equal(alpha > 0, mask)
    assert Runs.of(decode_brush(rle, width, height), (0, 0, width, height), by_rows=True).area() == mask.sum()


# Bad files: one line each


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("nothing", "is neither|is no|not"),
        (coco({"image_id": 99}), "is of image 99, which is not listed"),
        (coco({"category_id": 9}), "has category 9, which is not listed"),
        ({"images": [], "categories": [], "annotations": []}, "names no image"),
        ([{"image": "a.png", "label": []}], "export it as JSON, and not as JSON-MIN"),
        ("<annotations><track/></annotations>", "is of a video"),
    ],
)
def test_a_file_that_cannot_be_used(images: Path, tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        labelled(images, put(tmp_path / "file", content))


def test_a_file_of_other_images(images: Path, tmp_path: Path) -> None:
    file = coco()
    file["images"] = [{"id": 7, "file_name": "elsewhere.png"}]
    with pytest.raises(InputError, match=r"is about other images than .*: it names elsewhere\.png"):
        labelled(images, put(tmp_path / "a.json", file))


def test_an_unknown_category(images: Path, tmp_path: Path) -> None:
    file = put(tmp_path / "a.json", coco({"bbox": [1, 1, 2, 2]}))
    with pytest.raises(InputError, match="--anomalous-classes"):
        labelled(images, file, anomalous_classes=["crack"])


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"segmentation": [[1, 2, 3]]}, "annotation 5: its polygon has 3 numbers"),
        ({"bbox": [1000, 1000, 5, 5]}, "has only shapes outside it or without area"),
        ({"segmentation": {"size": [3, 3], "counts": [9]}}, "its mask has 3x3 pixels, unlike its image"),
    ],
)
def test_an_image_whose_labels_cannot_be_used(images: Path, tmp_path: Path, shape: Any, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        labelled(images, put(tmp_path / "a.json", coco(shape)))


def test_a_polygon_over_the_edge_is_cut(images: Path, tmp_path: Path) -> None:
    found = labelled(images, put(tmp_path / "a.json", coco({"segmentation": [[30, 20, 60, 20, 60, 60, 30, 60]]})))
    np.testing.assert_array_equal(mask_of(found["a.png"]), box_mask(30, 20, 10, 10))


def test_a_drawing_over_a_picture_of_another_size_is_refused(images: Path, tmp_path: Path) -> None:
    file = coco({"bbox": [1, 1, 2, 2]})
    file["images"][0] |= {"width": 80, "height": 60}
    found = labelled(images, put(tmp_path / "a.json", file))
    with pytest.raises(ImageError, match="80x60"):
        mask_of(found["a.png"])


def test_names_match_by_whole_folders() -> None:
    names = ImageNames([("x/a.png", 0), ("y/a.png", 1), ("b.PNG", 2)])
    assert names.find("root/x/a.png") == [0]
    assert names.find("a.png") == [0, 1]
    assert names.find("b.png") == [2]
    assert names.find("za.png") == []
