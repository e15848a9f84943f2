import threading
import time

import pytest

from acis_env import threads
from acis_env.threads import map_in_threads, num_threads


@pytest.fixture(params=[1, 2, 5], autouse=True)
def number(request, monkeypatch):
    monkeypatch.setattr(threads, "num_threads", lambda: request.param)
    return request.param


@pytest.mark.parametrize("length", [0, 1, 2, 7, 300])
def test_results_are_those_of_a_loop_in_its_order_and_no_thread_is_left(length):
    before = threading.active_count()

    def square(value):
        time.sleep(0.0005 * (value % 3))
        return value * value

    assert map_in_threads(square, range(length)) == [value * value for value in range(length)]
    assert threading.active_count() == before


def test_as_many_threads_as_cores_work_at_the_same_time(number):
    meeting = threading.Barrier(number, timeout=60)
    map_in_threads(lambda _: meeting.wait(), range(number))  # which none leaves before all have come


def test_of_several_errors_that_of_the_first_item_is_raised_and_few_others_are_tried():
    tried = []

    def fail(value):
        tried.append(value)
        time.sleep(0.001)
        if value >= 40:
            raise ValueError(f"item {value}")
        return value

    with pytest.raises(ValueError, match=r"item 40$"):
        map_in_threads(fail, range(4000))
    assert len(tried) < 1000


def test_there_is_at_least_one_thread_and_not_too_many():
    assert 1 <= num_threads() <= threads.MOST_THREADS
