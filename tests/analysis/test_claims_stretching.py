"""C10, damped and stretched against tuned SGD. Oracle: losses that fall at planted rates."""

from collections.abc import Mapping, Sequence

import pandas as pd
import pytest
from planted import CONFIGURED, decay, trajectory

from sharpflat.analysis.claims import claims_table

SEEDS = range(5)
Losses = Mapping[tuple[str, float], Sequence[float]]
#: SGD's losses by learning rate: it is best at 0.03. At 0.3 it diverges early.
TUNED: Losses = {
    ("sgd", 0.01): decay(0.05),
    ("sgd", 0.03): decay(0.1),
    ("bulk_sgd", 0.03): decay(0.9),
}
#: On no account a pair a < 1 < b, but SGD.
OTHERS: Losses = {
    ("weights(1, 1)", 0.06): decay(0.08),
    ("weights(1, 2)", 0.06): decay(0.9),
    ("weights(0.5, 1)", 0.06): decay(0.9),
    ("weights(0.5, 0.5)", 0.06): decay(0.9),
}


def _runs(losses: Losses, seed: int) -> list[pd.DataFrame]:
    """Rates that differ a little from seed to seed, losses that diverge where they are above 9."""
    return [
        trajectory(
            method,
            seed,
            [loss ** (1 + 0.01 * seed) for loss in values],
            learning_rate=rate,
            status="diverged" if max(values) > 9 else "finished",
        )
        for (method, rate), values in losses.items()
    ]


def _claim(plane: Losses, tuned: Losses = TUNED, seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    tables = {
        "stability_plane": pd.concat(run for seed in SEEDS for run in _runs(plane, seed)),
        "ablation_lr": pd.concat(run for seed in seeds for run in _runs(tuned, seed)),
    }
    claims = claims_table(tables, CONFIGURED)
    return claims[claims["claim"] == "C10"].reset_index(drop=True)


@pytest.mark.parametrize(
    ("rate", "ratio", "verdict"),
    [(0.2, 0.5, "reproduced"), (0.1, 1.0, "not reproduced"), (0.05, 2.0, "not reproduced")],
)
def test_a_pair_takes_a_share_of_the_steps_of_sgd_at_its_best_learning_rate(
    rate: float, ratio: float, verdict: str
) -> None:
    """A pair that is behind has a ratio too: to the loss that it reaches itself."""
    rows = _claim({**OTHERS, ("weights(0.1, 2)", 0.06): decay(rate)})
    assert rows["estimate"].tolist() == pytest.approx([ratio] * 2)
    assert rows["verdict"].tolist() == [verdict] * 2
    assert rows["figure"].tolist() == ["stability_plane"] * 2


def test_sgd_may_be_best_at_the_planes_own_learning_rate() -> None:
    plane = {**OTHERS, ("weights(0.1, 2)", 0.06): decay(0.4), ("weights(1, 1)", 0.06): decay(0.2)}
    assert _claim(plane)["estimate"][1] == pytest.approx(0.5)


def test_the_best_of_several_pairs_decides_after_a_correction_for_their_number() -> None:
    one = {**OTHERS, ("weights(0, 2)", 0.06): decay(0.2)}
    first = _claim(one)
    noisy = {("weights(0.1, 4)", 0.06): decay(0.05), ("weights(0, 4)", 0.06): decay(0.07)}
    several = _claim({**one, **noisy})
    assert several["estimate"][1] == pytest.approx(first["estimate"][1])
    assert several["interval"][1].endswith("simultaneous")
    assert several["verdict"].tolist() == ["reproduced"] * 2


def test_losses_count_up_to_the_end_of_the_shorter_runs() -> None:
    """SGD, which runs twice as long, falls steeply where the plane has no records."""
    longer = {("sgd", 0.03): decay(0.1) + [0.3 * loss for loss in decay(0.9)]}
    rows = _claim({("weights(0.1, 2)", 0.06): decay(0.2)}, longer)
    assert rows["estimate"][1] == pytest.approx(0.5)


def test_a_learning_rate_at_which_sgd_diverged_sets_no_goal_and_no_end() -> None:
    tuned = {**TUNED, ("sgd", 0.3): [1.0, 0.1, 50.0]}
    plane = {("weights(0.1, 2)", 0.06): decay(0.2)}
    pd.testing.assert_frame_equal(_claim(plane, tuned), _claim(plane))


@pytest.mark.parametrize("losses", [[1.0, 0.5, 50.0], [1.0, 0.5, 1.1]])
def test_a_pair_that_diverged_or_made_no_progress_takes_a_hundred_times_as_long(
    losses: list[float],
) -> None:
    rows = _claim({**OTHERS, ("weights(0.1, 4)", 0.06): losses})
    assert rows["estimate"][1] == pytest.approx(100)
    assert rows["verdict"][1] == "not reproduced"


def test_seeds_that_either_figure_lacks_are_left_out() -> None:
    plane = {("weights(0.1, 2)", 0.06): decay(0.2)}
    assert _claim(plane, seeds=[1, 2, 7])["n"].tolist() == [2, 2]
    assert _claim(plane, seeds=[7])["n"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("plane", "tuned"),
    [
        (OTHERS, TUNED),
        ({("weights(0.1, 2)", 0.06): decay(0.2)}, {("bulk_sgd", 0.03): decay(0.1)}),
    ],
)
def test_without_a_pair_or_without_sgd_nothing_is_measured(plane: Losses, tuned: Losses) -> None:
    rows = _claim(plane, tuned)
    assert rows["n"].tolist() == [0, 0]
    assert set(rows["verdict"]) == {"inconclusive"}
