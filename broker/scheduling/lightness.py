"""Whether a signature is light, so that the intake thread runs it itself, or heavy: decided by its runs. Pure.

    unknown ----------------\
     measured and not short --+--> heavy --SHORT_RUNS short runs, no long one, pause is over-----> light
    ended inline by a long run    ^                                                                |
                                  +---one run far too long, two long ones, or slow ones on average--+

A long run on the intake thread delays every model and every worker, while a light model that counts as heavy only loses
the time in which one thread wakes another. So one or two runs make a signature heavy, and many runs make it light; a
signature with occasional long runs (one image in a hundred, say) is tried again after increasing pauses.

It takes two because the host of a virtual machine takes its processors away now and then, for some milliseconds. No
counter of the machine distinguishes that from a run that waits.
"""

from __future__ import annotations

LONG_NS = 5_000_000
"""Two runs that hold the intake thread longer than this, within SHORT_RUNS, make the signature heavy."""
FAR_TOO_LONG_NS = 25_000_000
"""So does one that is longer than this."""
SHORT_NS = 1_000_000
"""Limit for the average run of a light signature, and for each of the runs that make it light."""
LIGHT_MEAN_NS = 250_000
"""Limit for the average of the runs that make it light. Between the two limits it stays as it is."""
SHORT_RUNS = 500
OUTWEIGHED_BY = 100
"""This many short runs outweigh one that is neither short nor long: 99 in 100 must be short."""
FIRST_PAUSE_NS = 10_000_000_000
LAST_PAUSE_NS = 600_000_000_000
_FORGIVEN = 10
"""A signature that was light for this many times its pause starts again with the first pause."""

MEASURED = "measured"
UNMEASURED = "unmeasured"
SHORT = "short runs"
LONG = "long run"
SLOW = "slow runs"


class Lightness:
    """Whether one signature is light. `why` names the reason: one of the words above, or the text of `always_heavy`.

    `ran` must be called for every run of a heavy signature, and for runs of a light one above `watch_ns`. Not
    thread-safe.
    """

    __slots__ = (
        "_always_heavy",
        "_last_long",
        "_pause_ns",
        "_score",
        "_since_ns",
        "_until_ns",
        "light",
        "why",
    )

    def __init__(self, light: bool, why: str, always_heavy: str = "") -> None:
        self.light = light and not always_heavy
        self.why = always_heavy or why
        self._always_heavy = bool(always_heavy)
        self._last_long = -SHORT_RUNS  # the number of the last long run
        self._score = 0  # short runs since the last long one, minus the weight of other runs
        self._pause_ns = 0  # length of the last pause
        self._since_ns = 0  # when it became light
        self._until_ns = 0  # the end of the pause

    def __repr__(self) -> str:
        return f"<Lightness {'light' if self.light else 'heavy'}: {self.why}>"

    @property
    def watch_ns(self) -> int:
        """Only runs that took longer than this can change the decision."""
        return SHORT_NS if self.light else -1

    def ran(self, run_ns: int, mean_ns: int, now_ns: int, number: int) -> None:
        """Take one more run into account, which ended now: the `number`-th. `mean_ns` is the moving average of recent
        runs, this one included."""
        if self.light:
            if run_ns > LONG_NS and self._is_too_long(run_ns, number):
                self._turn_heavy(LONG, now_ns)
            elif mean_ns > SHORT_NS:
                self._turn_heavy(SLOW, now_ns)
        elif not self._always_heavy:
            self._count(run_ns)
            if self._score >= SHORT_RUNS and mean_ns <= LIGHT_MEAN_NS and now_ns >= self._until_ns:
                self.light, self.why, self._since_ns = True, SHORT, now_ns

    def _is_too_long(self, run_ns: int, number: int) -> bool:
        last, self._last_long = self._last_long, number
        return run_ns > FAR_TOO_LONG_NS or number - last < SHORT_RUNS

    def _count(self, run_ns: int) -> None:
        if run_ns > LONG_NS:
            self._score = 0
        elif run_ns > SHORT_NS:
            self._score = max(0, self._score - OUTWEIGHED_BY)
        else:
            self._score += 1

    def _turn_heavy(self, why: str, now_ns: int) -> None:
        good_ns = now_ns - self._since_ns
        again = self._pause_ns and good_ns < _FORGIVEN * self._pause_ns
        self._pause_ns = min(2 * self._pause_ns, LAST_PAUSE_NS) if again else FIRST_PAUSE_NS
        self._until_ns = now_ns + self._pause_ns
        self._score = 0
        self.light, self.why = False, why
