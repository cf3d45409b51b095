"""Settings of `ssvq export`."""

from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import CliPositionalArg

from ssvq.settings import Command, Location, Output


class ExportConfig(Command):
    """Write scores and findings for other tools: GIS, STAC catalogues, spreadsheets and label tools."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    format: Literal["cog", "geojson", "stac", "csv", "gpkg", "geojson-findings", "coco", "cvat", "label-studio"]
    """cog: heat map as Cloud-Optimised GeoTIFF; geojson: anomalous regions; stac: Items; csv: a row for each tile. gpkg
    and geojson-findings: findings for GIS. coco, cvat and label-studio: findings as annotations for label tools."""

    out: Output
    """File to write, local or s3://; for the heat maps of several images a folder."""

    image: str | None = None
    """The image: its address, or the end of it where that names one image only (default: all images)."""

    survey: str | None = None
    """Survey whose images are written (default: every survey)."""

    model_id: str | None = None
    """Model whose scores are written (default: the latest of each survey)."""

    threshold: float | None = Field(None, gt=0)
    """Cell distance at which a region of geojson is anomalous (default: the uniform cell distance at which a tile
    reaches the model's threshold).
    """

    @field_validator("format", mode="before")
    @classmethod
    def _is_of_score_maps(cls, format: str) -> str:
        if format == "onnx":
            raise ValueError("this command writes score maps; `ssvq export-model` writes a model as ONNX")
        return format
