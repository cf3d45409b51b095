"""Synthetic photographs of painted steel with masks of their rust, for demonstrations and tests. Seeded and procedural.

Colours are chosen so that a threshold on them does not find the rust; texture does.
"""

from ssvq.demo.synthetic.files import write_later, write_survey
from ssvq.demo.synthetic.survey import (
    SyntheticImage,
    draw_corrosion,
    paint_later,
    paint_orthomosaic,
    paint_steel,
    paint_survey,
)

__all__ = [
    "SyntheticImage",
    "draw_corrosion",
    "paint_later",
    "paint_orthomosaic",
    "paint_steel",
    "paint_survey",
    "write_later",
    "write_survey",
]
