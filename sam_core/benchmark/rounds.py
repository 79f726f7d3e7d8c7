"""Timing several kinds of work against each other, so that a busy machine slows all of them alike.

Absolute times on a shared machine move by tens of percent within a minute; the quotient of two times taken one after
the other moves far less, and the median of many such quotients less still.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from tqdm import tqdm

from sam_core.benchmark.rows import Figure

#: A median absolute deviation times this is the standard deviation of normally distributed values.
MAD_TO_DEVIATION = 1.4826
#: The standard error of a median is this much larger than that of a mean: sqrt(pi / 2).
MEDIAN_ERROR = 1.2533


def order_of(names: Sequence[str], number: int) -> list[str]:
    """The order of round `number`: it turns by one place every second round, and every other round is backwards.

    So in two consecutive rounds every pair of names comes in both orders, and over many rounds every name has had
    every place: what a piece of work leaves behind (a cold cache, a warm core) falls on all alike.
    """
    shift = number // 2 % len(names)
    turned = [*names[shift:], *names[:shift]]
    return turned[::-1] if number % 2 else turned


def interleave(
    work: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    device: torch.device | None = None,
    repeat: Mapping[str, int] | None = None,
    warm_up: int = 1,
    title: str = "",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Do every kind of work once a round and return the seconds of each, round by round.

    Args:
        work: what to time, by name.
        rounds: how many rounds.
        device: waited for before and after each piece of work, so that a GPU's queue is empty at both ends.
        repeat: how often a kind is done within its turn (once, if not named); its seconds are those of the whole turn.
        warm_up: rounds that are done and not timed.
        title: shown beside the progress on standard error, where that is a terminal.
        clock: gives seconds.
    """
    repeat = repeat or {}
    seconds: dict[str, list[float]] = {name: [] for name in work}
    bar = tqdm(range(-warm_up, rounds), desc=title, leave=False, disable=None, unit="round")
    for number in bar:
        for name in order_of(list(work), max(number, 0)):
            synchronise(device)
            started = clock()
            for _ in range(repeat.get(name, 1)):
                work[name]()
            synchronise(device)
            if number >= 0:
                seconds[name].append(clock() - started)
    return seconds


def synchronise(device: torch.device | None) -> None:
    """Wait until the device has done what it was given."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device is not None and device.type == "mps":
        torch.mps.synchronize()


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Figure:
    """The median of the rounds' quotients, with the median's standard error."""
    return median([above / below for above, below in zip(numerator, denominator, strict=True)])


def median(values: Sequence[float]) -> Figure:
    """The median of some measurements, with its standard error from their median absolute deviation."""
    middle = statistics.median(values)
    deviation = MAD_TO_DEVIATION * statistics.median(abs(value - middle) for value in values)
    return Figure(middle, MEDIAN_ERROR * deviation / math.sqrt(len(values)))


def corrected(figure: Figure, control: Figure) -> Figure:
    """A ratio divided by what the same quotient gives for two equal things; the relative errors add as squares."""
    value = figure.value / control.value
    noise = value * math.hypot(figure.noise / figure.value, control.noise / control.value)
    return Figure(value, noise, {"uncorrected": round(figure.value, 4)})


def milliseconds(seconds: Sequence[float], repeat: int = 1) -> float:
    """The median of some turns of `repeat` pieces of work, as milliseconds for one."""
    return round(1000 * statistics.median(seconds) / repeat, 2)


def per_second(seconds: Sequence[float], things: int) -> float:
    """How many things are done in a second, by the median of some turns of so many each."""
    return round(things / statistics.median(seconds), 1)
