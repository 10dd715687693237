"""What may befall the processes at any moment."""

from __future__ import annotations

from tests.contract.protocol.threads.program import Outcome, Thread, step


class Fate(Thread):
    """Each as often as the configuration says, between any two steps."""

    ENVIRONMENT = True
    START = "strike"

    def begin(self, state: bytearray) -> None:
        super().begin(state)
        f, config = self.f, self.config
        state[f.worker_kills] = config.worker_kills
        state[f.worker_stops] = config.worker_stops
        state[f.broker_kills] = config.broker_kills
        state[f.stops] = config.stops
        state[f.interruptions] = config.interruptions
        state[f.cancels] = config.cancels
        state[f.raises] = config.raises

    @step
    def strike(self, s: bytes) -> Outcome:
        """kills, suspends or cancels"""
        f = self.f
        return [
            *self._fell(s, f.worker_kills, f.dead[0]),  # worker 0: the others are there to go on
            *self._fell(s, f.worker_stops, f.stopped[0]),
            *self._fell(s, f.broker_kills, f.broker_gone),
            *self._fell(s, f.stops, f.broker_stopped),
            *self._cancel(s),
        ] or None

    def _fell(self, s: bytes, left: int, fallen: int) -> list[bytearray]:
        if not s[left] or s[fallen]:
            return []
        c = bytearray(s)
        c[left] -= 1
        c[fallen] = 1
        return [c]

    def _cancel(self, s: bytes) -> list[bytearray]:
        """CallFuture.cancel, from any thread."""
        f = self.f
        found = []
        for slot in range(f.slot_count if s[f.cancels] else 0):
            worker, index = divmod(slot, self.config.slots)
            if s[f.calls[worker]] >> index & 1 and s[f.busy[slot]] and not s[f.given_up[slot]]:
                c = bytearray(s)
                c[f.cancels] -= 1
                c[f.given_up[slot]] = 1
                c[f.cancelled[slot]] = s[f.sequence[slot]]
                found.append(c)
        return found
