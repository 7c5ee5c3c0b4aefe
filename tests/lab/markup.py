"""What is in a page of HTML, as a browser reads it."""

from __future__ import annotations

from html.parser import HTMLParser


class Tags(HTMLParser):
    """The elements of a page, the names of their attributes, and each element's name and text in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []

    @classmethod
    def of(cls, html: str) -> Tags:
        made = cls()
        made.feed(html)
        return made

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.kinds.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.texts.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
