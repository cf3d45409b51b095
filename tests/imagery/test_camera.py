"""The ground sampling distance that a camera's notes suggest."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssvq.imagery.camera import estimate_gsd
from ssvq.imagery.raster import open_with_file, read_header

LENS = {"EXIF_FocalLengthIn35mmFilm": "20"}


def packet(notes: str, elements: str = "") -> str:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\r\n<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        f'xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" {notes}>{elements}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta>\r\n     <?xpacket end="w"?>'
    )


def dji(height: str = "+40.00", pitch: str = "-89.90", more: str = "") -> str:
    return packet(f'drone-dji:RelativeAltitude="{height}" drone-dji:GimbalPitchDegree="{pitch}" {more}')


@pytest.mark.real_data
def test_a_real_photograph_from_40_metres(real_data: Path) -> None:
    with open_with_file(str(real_data / "drone" / "DJI_0029.JPG")) as (dataset, file):
        found = read_header(dataset, file).gsd_estimate
    pixel = 6.16e-3 / 4000  # the FC300S: a sensor 6.16 mm wide behind a lens of 3.61 mm
    assert found == pytest.approx(40.1 * pixel / 3.61e-3, rel=0.05)


def test_the_diagonal_of_35_mm_film_belongs_to_the_whole_sensor() -> None:
    whole = estimate_gsd(LENS, dji(), 4000, 3000)
    assert whole == pytest.approx(40 * 43.267 / 5000 / 20, rel=1e-3)
    assert estimate_gsd(LENS, dji(), 4000, 2250) == whole, "a crop to 16:9 keeps the width"
    assert estimate_gsd(LENS, dji(), 3000, 4000) == whole, "and so does a photograph on its side"
    assert estimate_gsd(LENS, dji(), 6000, 4000) == pytest.approx(40 * 36 / 6000 / 20)


def test_a_measured_distance_comes_before_the_height() -> None:
    assert estimate_gsd(LENS, dji(more='drone-dji:LRFTargetDistance="10.0"'), 6000, 4000) == pytest.approx(0.003)
    by_exif = LENS | {"EXIF_SubjectDistance": "(5)"}
    assert estimate_gsd(by_exif, dji(), 6000, 4000) == pytest.approx(0.0015)
    assert estimate_gsd(LENS | {"EXIF_SubjectDistance": "(0)"}, dji(), 6000, 4000) == pytest.approx(0.012)


def test_notes_may_be_elements() -> None:
    elements = "".join(
        f"<drone-dji:{name}>{value}</drone-dji:{name}>"
        for name, value in (("RelativeAltitude", "+40.00"), ("GimbalPitchDegree", "-90"))
    )
    assert estimate_gsd(LENS, packet("", elements), 6000, 4000) == pytest.approx(0.012)


@pytest.mark.parametrize(
    ("exif", "xmp"),
    [
        ({}, dji()),
        ({"EXIF_FocalLengthIn35mmFilm": "0"}, dji()),
        (LENS, ""),
        (LENS, dji(pitch="-45.0")),  # the object is farther than the height
        (LENS, dji(height="-3.00")),
        (LENS, dji(height="nan")),
        (LENS, packet('drone-dji:RelativeAltitude="+40.00"')),
        (LENS, packet('drone-dji:AbsoluteAltitude="+198.41" drone-dji:GimbalPitchDegree="-90"')),
        (LENS, dji().replace("</rdf:RDF>", "")),
        (LENS, '<!DOCTYPE x [<!ENTITY a "40">]>' + dji(height="&a;")),
        (LENS, dji(more='drone-dji:Note="' + "x" * 2_000_000 + '"')),
    ],
    ids=["no lens", "lens 0", "no notes", "oblique", "below", "nan", "no pitch", "sea", "damaged", "entity", "huge"],
)
def test_what_cannot_be_known_is_not(exif: dict[str, str], xmp: str) -> None:
    assert estimate_gsd(exif, xmp, 4000, 3000) is None


@given(st.text(max_size=200), st.dictionaries(st.sampled_from(sorted(LENS)), st.text(max_size=9)))
def test_no_text_of_a_camera_fails(text: str, exif: dict[str, str]) -> None:
    assert estimate_gsd(exif, "<x:xmpmeta " + text + ">", 10, 10) is None
