"""Pages as a parser reads them."""

from html.parser import HTMLParser


class Elements(HTMLParser):
    """Elements that a parser finds, as it finds them: what is escaped is not among them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
