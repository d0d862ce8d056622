"""Figures of several nets as tables for a terminal."""

from collections.abc import Sequence

from tinyconv.table import table
from tinyconv.timing.figures import Timing


def figures(timings: Sequence[Timing]) -> str:
    """A table with a row per net, and medians with ranges in brackets."""
    head: tuple[str, ...] = ("net", "parameters", "MACs, M", "size, KB", "training, images/s")
    head += ("batch", "s per epoch", "inference by 64, images/s", "one image, ms", "p99, ms")
    rows = [
        (
            timing.name,
            f"{timing.parameters:,}",
            f"{timing.macs / 1e6:.2f}",
            f"{timing.size / 1000:.0f}",
            f"{timing.best:.0f}",
            str(timing.batch_size or "-"),
            f"{timing.seconds_per_epoch:.0f}" if timing.seconds_per_epoch else "-",
            f"{timing.inference:.0f}",
            f"{1000 * timing.latency.median:.2f}",
            f"{1000 * timing.latency_p99:.2f}",
        )
        for timing in timings
    ]
    return table([head, *rows])


def comparison(timings: Sequence[Timing]) -> str:
    """A table of the ratios of speed between each net and its peers.

    A ratio above 1 means that tinyconv is faster: its images per second over those of the peer, and
    the peer's median latency of one image over that of tinyconv, run by run. Training is compared
    at the fastest batch size of each. If the recipe of a net always augments, a row compares its
    training with its own training without augmentation.
    """
    head = ("net", "times as fast as", "training", "inference by 64", "one image")
    rows: list[tuple[str, ...]] = [head]
    for ours in (timing for timing in timings if timing.kind == "tinyconv"):
        for theirs in timings:
            if theirs.model == ours.model and theirs is not ours:
                ratios = (
                    ours.best.over(theirs.best),
                    ours.inference.over(theirs.inference),
                    theirs.latency_by_run.over(ours.latency_by_run),
                )
                rows.append((ours.model, theirs.kind, *(f"{ratio:.2f}" for ratio in ratios)))
        if ours.batch_size in ours.unaugmented:
            ratio = ours.best.over(ours.unaugmented[ours.batch_size])
            rows.append((ours.model, "itself without augmentation", f"{ratio:.2f}", "", ""))
    return table(rows)
