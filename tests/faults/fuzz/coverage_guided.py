"""The same target for a fuzzer that looks for inputs which reach new code: `pip install atheris` (CPython 3.11 to 3.13
on Linux; no part of the dev extra), then

    python -m tests.faults.fuzz.coverage_guided [libFuzzer's options, such as -max_total_time=600] [folder of inputs]

An input's first byte chooses the slot, the next 64 are its request line, the rest is the head of its input region; an
input of a single byte has the honest worker checked.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["broker", "worker_client"]):
    from tests.faults.fuzz.cases import Case, Cases
    from tests.faults.fuzz.models import REGION_BYTES
    from tests.faults.fuzz.target import SLOTS, Target, target

_HEADER = 64


def case_of(data: bytes) -> Case:
    words = memoryview(data[: len(data) & -8]).cast("Q").tolist()
    return Case(words[:8], words[8 : 8 + REGION_BYTES // 8])


def seeds(fuzzed: Target) -> list[bytes]:
    """Valid requests to begin with."""
    found = []
    for number in range(100):
        case = Cases(fuzzed.ids, number).valid()
        found.append(b"\0" + b"".join(word.to_bytes(8, "little") for word in (*case.header, *case.table)))
    return found


def main() -> None:
    with target() as fuzzed:
        valid = seeds(fuzzed)

        def one_input(data: bytes) -> None:
            if len(data) < 1 + _HEADER:
                fuzzed.check_honest()
                fuzzed.forget_posts()
                return
            index = data[0] % SLOTS
            fuzzed.write(index, case_of(data[1:]))
            fuzzed.submit(index)
            fuzzed.settle()
            fuzzed.check_idle()
            fuzzed.check_untouched()

        def mutated(data: bytes, most: int, seed: int) -> bytes:
            """libFuzzer's own changes, now and then of a valid request."""
            if len(data) < 1 + _HEADER or seed % 16 == 0:
                data = valid[seed % len(valid)]
            changed: bytes = atheris.Mutate(data, most)
            return changed

        atheris.Setup(sys.argv, one_input, custom_mutator=mutated)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
