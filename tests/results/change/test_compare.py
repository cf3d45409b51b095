"""Regions of two times in one frame: what is new, grown, unchanged, shrunk and gone, and by how much."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from ssvq.results.findings.change.compare import Comparison, Regions, compare
from ssvq.results.findings.change.frames import Projective, cell_side, move, same_ground, same_view
from ssvq.results.findings.change.told import told_change
from ssvq.scores.ledger_row import ImageRow
from tests.support.rows import image_of

IMAGE = shapely.box(0, 0, 1000, 800)
CELL = 4.0
TOLERANCE = 0.1


def regions(*shapes: BaseGeometry, seen: BaseGeometry = IMAGE, prefix: str = "", cell: float = CELL) -> Regions:
    outlines = np.empty(len(shapes), object)
    outlines[:] = shapes
    return Regions([f"{prefix}{number}" for number in range(len(shapes))], outlines, seen, cell)


def block(x: float, y: float, width: float, height: float) -> BaseGeometry:
    return shapely.box(x, y, x + width, y + height)


def compared(later: list[BaseGeometry], earlier: list[BaseGeometry], tolerance: float = TOLERANCE) -> Comparison:
    return compare(regions(*later), [regions(*earlier, prefix="p")], tolerance)


@pytest.mark.parametrize(
    ("height", "change"),
    [(100, "unchanged"), (108, "unchanged"), (92, "unchanged"), (113, "grown"), (87, "shrunk"), (300, "grown")],
)
def test_one_region(height: float, change: str) -> None:
    (found,) = compared([block(100, 100, 100, height)], [block(100, 100, 100, 100)]).changes
    assert (found.change, found.previous_id, found.previous_area) == (change, "p0", 10_000)
    assert found.growth == pytest.approx(height / 100)


def test_new_and_gone() -> None:
    found = compared(
        [block(100, 100, 50, 50), block(600, 100, 50, 50)], [block(100, 100, 50, 50), block(100, 600, 9, 9)]
    )
    assert [(change.change, change.previous_area) for change in found.changes] == [("unchanged", 2500), ("new", 0)]
    assert found.changes[1].growth is None
    assert found.matched == {"p0"}
    assert [(lost.finding_id, lost.outline) for lost in found.lost] == [("p1", block(100, 600, 9, 9))]


def test_neighbours_within_a_cell_are_one_place_and_farther_ones_are_not() -> None:
    small = block(100, 100, 4, 4)
    for shift, change in ((4, "unchanged"), (8, "unchanged"), (9, "new")):
        (found,) = compared([shapely.affinity.translate(small, shift)], [small]).changes
        assert found.change == change, shift


def test_a_cell_more_or_less_is_no_growth() -> None:
    """What a cell on the outline shows of a region is in or out by chance."""
    more = shapely.union(block(100, 100, 12, 12), block(100, 112, 8, 4))
    (found,) = compared([more], [block(100, 100, 12, 12)]).changes
    assert (found.change, found.growth) == ("unchanged", pytest.approx(11 / 9))
    (found,) = compared([block(100, 100, 24, 24)], [block(100, 100, 12, 12)]).changes
    assert found.change == "grown"


def test_regions_that_merged_are_compared_with_all_that_they_were() -> None:
    found = compared([block(100, 100, 300, 100)], [block(100, 100, 100, 100), block(250, 100, 150, 100)])
    (change,) = found.changes
    assert (change.change, change.previous_id, change.previous_area) == ("grown", "p1", 25_000)
    assert change.growth == pytest.approx(1.2)
    assert found.matched == {"p0", "p1"}


def test_parts_of_what_was_one_region_share_its_area() -> None:
    first, second = compared(
        [block(100, 100, 100, 100), block(250, 100, 150, 100)], [block(100, 100, 300, 100)]
    ).changes
    assert (first.change, second.change) == ("shrunk", "shrunk")
    assert first.growth == second.growth == pytest.approx(25 / 30)
    assert (first.previous_area, second.previous_area) == (pytest.approx(12_000), pytest.approx(18_000))


def test_what_one_survey_did_not_see_is_neither_new_nor_gone() -> None:
    left, right = shapely.box(0, 0, 500, 800), shapely.box(400, 0, 1000, 800)
    later = regions(block(450, 100, 20, 20), block(700, 100, 50, 50), block(480, 300, 30, 50), seen=right)
    earlier = regions(block(100, 100, 20, 20), block(380, 600, 30, 30), seen=left, prefix="p")
    found = compare(later, [earlier], TOLERANCE)
    assert [change.change for change in found.changes] == ["new", None, "new"]
    assert not found.lost, "of 10 of 30 columns nobody can tell"


def test_a_region_at_the_edge_is_compared_where_both_saw_it() -> None:
    seen = shapely.box(0, 0, 500, 800)
    (found,) = compare(
        regions(block(400, 100, 150, 100)), [regions(block(450, 100, 50, 100), seen=seen, prefix="p")], TOLERANCE
    ).changes
    assert (found.change, found.previous_area) == ("grown", 5000)
    assert found.growth == pytest.approx(2), "the part beyond 500 was not seen before"


def test_overlapping_earlier_images_do_not_count_twice() -> None:
    one, other = shapely.box(0, 0, 700, 800), shapely.box(400, 0, 1000, 800)
    patch = block(450, 100, 100, 100)
    shifted = shapely.affinity.translate(patch, 6, 6)
    found = compare(
        regions(patch), [regions(patch, seen=one, prefix="p"), regions(shifted, seen=other, prefix="q")], TOLERANCE
    )
    (change,) = found.changes
    assert (change.previous_id, change.growth, change.change) == ("p0", pytest.approx(1), "unchanged")
    assert (
        compare(regions(), [regions(patch, seen=one, prefix="p"), regions(shifted, seen=other)], TOLERANCE)
        .lost[0]
        .finding_id
        == "p0"
    )


def test_nothing_on_either_side() -> None:
    assert compared([], []) == Comparison([], set(), [])
    assert [lost.finding_id for lost in compared([], [block(1, 1, 9, 9)]).lost] == ["p0"]


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 70), st.integers(1, 25), st.integers(1, 25)), max_size=12),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 70), st.integers(1, 25), st.integers(1, 25)), max_size=12),
)
def test_sums(later: list[tuple[int, int, int, int]], earlier: list[tuple[int, int, int, int]]) -> None:
    """Areas of before and after add up, whatever was split, merged, new or gone."""

    def areas(places: list[tuple[int, int, int, int]]) -> list[BaseGeometry]:
        union = shapely.union_all([block(x * CELL, y * CELL, w * CELL, h * CELL) for x, y, w, h in places])
        return [part for part in shapely.get_parts(shapely.intersection(union, IMAGE)) if part.area]

    now, before = areas(later), areas(earlier)
    found = compared(now, before)
    then = sum(change.previous_area or 0 for change in found.changes) + sum(lost.outline.area for lost in found.lost)
    assert then == pytest.approx(sum(shape.area for shape in before))
    for change, shape in zip(found.changes, now, strict=True):
        assert (change.growth is None) == (change.change == "new")
        if change.growth is not None:
            assert change.growth * (change.previous_area or 0) == pytest.approx(shape.area)
    assert found.matched.isdisjoint(lost.finding_id for lost in found.lost)


# Frames


def test_a_nearer_camera_is_no_growth() -> None:
    nearer = Projective(np.array([[1.6, 0.1, -50], [-0.1, 1.6, 30], [0, 0, 1.0]]))
    patch = block(200, 200, 100, 60)
    moved = move(patch, nearer)
    assert moved is not None
    assert moved.area == pytest.approx(patch.area * (1.6**2 + 0.1**2))
    assert cell_side(nearer, 4, patch) == pytest.approx(4 * np.hypot(1.6, 0.1))
    (found,) = compare(regions(moved), [regions(moved, prefix="p")], 0).changes
    assert (found.change, found.growth) == ("unchanged", pytest.approx(1))


def test_points_behind_the_horizon_have_no_place() -> None:
    tilted = Projective(np.array([[1, 0, 0], [0, 1, 0], [0, -1 / 500, 1.0]]))
    assert move(block(0, 400, 10, 50), tilted) is not None
    assert move(block(0, 400, 10, 200), tilted) is None


def image(crs: str, affine: Affine, width: int = 400, height: int = 300) -> ImageRow:
    return image_of({"crs": crs, "transform": list(affine)[:6], "image_width": width, "image_height": height})


def test_frames_of_the_ground() -> None:
    earlier = image("EPSG:32633", Affine(0.02, 0, 500_000, 0, -0.02, 4_000_000))
    later = image("EPSG:32633", Affine(0.01, 0, 500_001, 0, -0.01, 3_999_999))
    np.testing.assert_allclose(
        same_ground(earlier, later)(np.array([[50.0, 50.0], [60.0, 50.0]])), [[0, 0], [20, 0]], atol=1e-6
    )
    web = image("EPSG:3857", Affine(0.02, 0, 1_669_792, 0, -0.02, 4_323_000))
    there = same_ground(earlier, web)(np.array([[50.0, 50.0]]))
    np.testing.assert_allclose(same_ground(web, earlier)(there), [[50, 50]], atol=1e-3)
    nowhere = image('LOCAL_CS["site",UNIT["metre",1]]', Affine.identity())
    assert np.isnan(same_ground(nowhere, later)(np.array([[1.0, 1.0]]))).all()


def test_one_view_at_two_sizes() -> None:
    frame = same_view(image("", Affine.identity()), image("", Affine.identity(), width=800, height=600))
    np.testing.assert_array_equal(frame(np.array([[10.0, 20.0]])), [[20, 40]])


@pytest.mark.parametrize(
    ("change", "growth", "text"),
    [
        ("grown", 1.234, "grown by 23 %"),
        ("grown", 3.42, "grown to 3.4 times"),
        ("grown", 1234.0, "grown to 1,234 times"),
        ("shrunk", 0.88, "shrunk by 12 %"),
        ("unchanged", 1.04, "unchanged"),
        ("new", None, "new"),
        ("gone", 0.0, "gone"),
        (None, None, "not seen in 2025"),
    ],
)
def test_in_words(change: str | None, growth: float | None, text: str) -> None:
    assert told_change(change, growth, "2025") == text
    assert told_change(None) == ""
