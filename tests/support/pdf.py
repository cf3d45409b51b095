"""What a PDF holds, by PDFium, which Chromium reads PDFs with."""

from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium


class Pdf:
    """A PDF that was read whole."""

    def __init__(self, path: Path) -> None:
        with pypdfium2.PdfDocument(path) as document:
            self.metadata: dict[str, str] = document.get_metadata_dict()
            self.pages: list[str] = []
            """The text of each page as one line with single spaces."""
            self.lines: list[list[str]] = []
            """The lines of each page."""
            self.sizes: list[tuple[int, int]] = []
            """Width and height of each page in points."""
            self.images = 0
            """Pictures on all pages."""
            self.rightmost = 0.0
            """Points from the left edge to the end of the text that goes farthest to the right."""
            for page in document:
                text = page.get_textpage()
                self.lines.append(text.get_text_range().splitlines())
                self.pages.append(" ".join(text.get_text_range().split()))
                width, height = page.get_size()
                self.sizes.append((round(width), round(height)))
                self.images += sum(1 for _ in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=9))
                boxes = [text.get_charbox(i) for i in range(text.count_chars())]
                self.rightmost = max([self.rightmost, *(right for _, _, right, _ in boxes)])

    @property
    def text(self) -> str:
        """Of all pages."""
        return " ".join(self.pages)
