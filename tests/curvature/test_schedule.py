"""When checks and searches come. Oracle: the intervals as they are defined."""

from __future__ import annotations

import pytest

from sharpflat.curvature.schedule import (
    FIRST_CHECK,
    LONGEST_CHECK,
    LONGEST_SEARCH,
    SURPRISE,
    Schedule,
)


def test_checks_come_half_as_often_until_one_surprises():
    """Oracle: 10, 20, 40, 80, 100, 100 updates, then halves of that, but never under 10."""
    schedule, intervals = Schedule(), []
    for surprise in [1.0] * 6 + [2 * SURPRISE] * 5:
        intervals.append(schedule.check_interval)
        schedule.updates += schedule.check_interval
        assert schedule.check_is_due
        schedule.learn(surprise)
        schedule.checked()
        assert not schedule.check_is_due
    assert intervals[0] == FIRST_CHECK and intervals[5] == LONGEST_CHECK
    assert intervals == [10, 20, 40, 80, 100, 100, 100, 50, 25, 12, 10]


def test_a_check_before_it_is_due_leaves_the_interval():
    """Oracle: the definition; how far off what was tracked a few updates later says little."""
    schedule = Schedule(updates=FIRST_CHECK - 1)
    schedule.learn(1.0)
    schedule.checked()
    assert (schedule.check_interval, schedule.last_check) == (FIRST_CHECK, FIRST_CHECK - 1)


@pytest.mark.parametrize("found", [False, True])
def test_searches_come_half_as_often_while_they_find_nothing(found):
    """Oracle: 1, 2, 4, ..., 50 updates, or each where something was found."""
    schedule, intervals = Schedule(), []
    for _ in range(8):
        intervals.append(schedule.search_interval)
        schedule.updates += schedule.search_interval
        assert schedule.search_is_due
        schedule.searched(found=found)
        assert not schedule.search_is_due
    assert intervals == ([1] * 8 if found else [1, 2, 4, 8, 16, 32, LONGEST_SEARCH, LONGEST_SEARCH])


def test_the_next_check_searches_for_what_rose():
    """Oracle: the definition, in the middle of an interval."""
    schedule = Schedule(updates=70, last_search=60, search_interval=32)
    assert not schedule.search_is_due
    schedule.search_next()
    assert schedule.search_is_due
    schedule.searched_afresh()
    assert not schedule.search_is_due
