"""Words for changes, for pages and summaries."""


def told_change(change: str | None, growth: float | None = None, since: str | None = None) -> str:
    """The columns `change`, `growth` and `previous_survey` of a finding in words.

    For instance `grown by 23 %`, `grown to 3.4 times`, `shrunk by 12 %`, `unchanged`, `new`, `gone`; `not seen in 2025`
    if that survey did not show the place; empty without a comparison.
    """
    if change is None:
        return "" if since is None else f"not seen in {since}"
    if growth is None or change not in ("grown", "shrunk"):
        return change
    if growth >= 2:
        return f"grown to {growth:.2g} times" if growth < 100 else f"grown to {growth:,.0f} times"
    return f"{change} by {abs(growth - 1):.0%}".replace("%", " %")
