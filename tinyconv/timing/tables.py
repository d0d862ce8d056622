"""Figures of several nets as tables for a terminal."""

from collections.abc import Sequence

from tinyconv.table import table
from tinyconv.timing.figures import Timing


def figures(timings: Sequence[Timing]) -> str:
    """A table with a row per net, and medians with ranges in brackets."""
    head: tuple[str, ...] = ("net", "parameters", "MACs, M", "size, KB", "training, images/s")
    head += ("batch", "s per epoch", "inference, images/s", "latency, ms", "p99, ms")
    rows = [
        (
            timing.name,
            f"{timing.parameters:,}",
            f"{timing.macs / 1e6:.2f}",
            f"{timing.size / 1000:.0f}",
            f"{timing.best:.0f}",
            str(timing.batch_size),
            f"{timing.seconds_per_epoch:.0f}",
            f"{timing.inference:.0f}",
            f"{1000 * timing.latency.median:.1f}",
            f"{1000 * timing.latency_p99:.1f}",
        )
        for timing in timings
    ]
    return table([head, *rows])


def comparison(timings: Sequence[Timing]) -> str:
    """A table of the ratios of speed between each net and its peers.

    Training is compared at the fastest batch size of each. If the recipe of a net always augments,
    a row compares its training with its own training without augmentation.
    """
    rows: list[tuple[str, ...]] = [("net", "against", "training", "inference")]
    for ours in (timing for timing in timings if timing.kind == "tinyconv"):
        for theirs in timings:
            if theirs.model == ours.model and theirs is not ours:
                pairs = (ours.best, theirs.best), (ours.inference, theirs.inference)
                ratios = (f"{one.over(other):.2f}" for one, other in pairs)
                rows.append((ours.model, theirs.kind, *ratios))
        if ours.unaugmented:
            ratio = ours.best.over(ours.unaugmented[ours.batch_size])
            rows.append((ours.model, "itself without augmentation", f"{ratio:.2f}", ""))
    return table(rows)
