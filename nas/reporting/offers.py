"""The models that are offered, one for each need, and how sure what is said of them is."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from nas.delivery.promise import Offer, in_words
from nas.delivery.results import Front, Versus, mark, smaller

TABLE_COLUMNS = 80
"""Width of a terminal below which tables lose what they are for."""


def offer_columns(front: Front) -> tuple[str, ...]:
    """Headers of the table of offers."""
    low = front.low
    return (
        "need",
        "take",
        f"faster than {low}",
        "smaller",
        f"{front.quality.title} against {low} (95 %)",
        "p",
        "samples",
        "expected on test (95 %)",
        "test",
    )


def offer_rows(front: Front) -> list[tuple[str, ...]]:
    """One row for every need, under `offer_columns`."""
    return [_row(offer, front) for offer in front.offers]


def _row(offer: Offer, front: Front) -> tuple[str, ...]:
    promise, versus = offer.promise, front.model(offer.model).versus[front.low]
    return (
        in_words(offer.need),
        offer.model,
        f"{versus.latency_ratio:.2f}x{mark(versus.latency_disturbed)}",
        f"{versus.size_ratio:.2f}x",
        between(promise.difference, promise.low, promise.high),
        f"{promise.p:.2g}",
        f"{promise.samples:,}",
        between(promise.expected, promise.expected_low, promise.expected_high),
        on_test(versus),
    )


def on_test(versus: Versus) -> str:
    """The difference that was found on test, with its interval where that is known."""
    if versus.score_low is None or versus.score_high is None:
        return f"{versus.score_difference:+.4f}"
    return between(versus.score_difference, versus.score_low, versus.score_high)


def between(value: float, low: float, high: float) -> str:
    """A difference and its interval."""
    return f"{value:+.4f} ({low:+.4f} to {high:+.4f})"


def judged_by(front: Front) -> str:
    """What the table of offers was judged on, and what its columns mean; empty without one."""
    if not front.offers:
        return ""
    promise, low = front.offers[0].promise, front.low
    on = (
        f"{promise.samples:,} validation samples that nothing was chosen by"
        if promise.kept_back
        else f"the {promise.samples:,} validation samples that the search chose by, too few "
        "to keep some back: the best of many owes something to luck"
    )
    return (
        f"Judged on {on}. p: the chance of this or worse for a model that is not worse than {low} "
        "(paired test); at no loss it is 0.05 or more."
    )


def offers_table(front: Front) -> Table:
    """The offers for a terminal of 80 columns."""
    low = front.low
    table = Table(
        title="What to take",
        caption=f"vs {low}: times faster, times smaller; difference in {front.quality.title}: "
        "expected on test with its interval of 95 %, and found there",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("need", no_wrap=True)
    table.add_column("model", no_wrap=True)
    for column in ("faster", "smaller", "expected", "test"):
        table.add_column(column, justify="right", no_wrap=True)
    for offer in front.offers:
        promise, versus = offer.promise, front.model(offer.model).versus[low]
        half = (promise.expected_high - promise.expected_low) / 2  # it is symmetric
        table.add_row(
            in_words(offer.need),
            offer.model,
            f"{versus.latency_ratio:.3g}x{'*' if versus.latency_disturbed else ''}",
            f"{versus.size_ratio:.3g}x",
            f"{promise.expected:+.3f} ±{half:.3f}",
            f"{versus.score_difference:+.3f}",
        )
    return table


def offer_lines(front: Front) -> list[str]:
    """The same for a terminal that is too narrow for a table."""
    low, lines = front.low, []
    for offer in front.offers:
        promise, versus = offer.promise, front.model(offer.model).versus[low]
        expected = between(promise.expected, promise.expected_low, promise.expected_high)
        lines.append(
            f"{in_words(offer.need)}: {offer.model}, {versus.latency_ratio:.2f}x as fast as {low}"
            f"{mark(versus.latency_disturbed)}, {smaller(versus.size_ratio)}, "
            f"{front.quality.title} expected on test {expected}"
        )
    return lines
