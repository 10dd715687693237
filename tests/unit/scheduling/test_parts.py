"""Parts of a request: the message about outputs that do not fit."""

from __future__ import annotations

import numpy as np

from broker.data_plane.split import other_rows


def test_the_rows_of_the_first_output_that_does_not_fit() -> None:
    """Its other dimensions do not matter."""
    right, wrong, scalar = np.zeros((3, 9)), np.zeros((2, 5)), np.zeros(())
    assert other_rows(3, [right, wrong, scalar]) == "2"
    assert other_rows(3, [right, scalar, wrong]) == "no rows"
