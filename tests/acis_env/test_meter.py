"""Progress: a bar where there is a terminal, and plain lines at long intervals where there is none."""

import io
import sys

import pytest

from acis_env import meter
from acis_env.meter import INTERVAL, Meter, in_words, metered


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 500.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)
    return clock


def test_without_a_terminal_there_is_a_plain_line_every_ten_seconds(clock, capsys):
    assert INTERVAL == 10
    with Meter("training", 100) as shown:
        for done in range(1, 61):
            clock.now += 0.5
            shown.advance(done, loss=f"{done}")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "training: 20 of 100 it, 10 s, about 40 s left, loss 20",
        "training: 40 of 100 it, 20 s, about 30 s left, loss 40",
        "training: 60 of 100 it, 30 s, about 20 s left, loss 60",
    ]


def test_the_end_of_long_work_is_shown_and_short_work_is_quiet(clock, capsys):
    for seconds, expected in ((1.0, []), (11.0, ["work: 1 of 2 it", "work: 2 of 2 it"])):
        with Meter("work", 2) as shown:
            clock.now += seconds
            shown.advance(1)
            shown.advance(2)
        assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == expected


def test_time_left_does_not_count_what_was_done_before(clock, capsys):
    with Meter("training", 100, done=90) as shown:
        clock.now += 10
        shown.advance(92)
    assert "92 of 100 it, 10 s, about 40 s left" in capsys.readouterr().err


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Meter("training", 8, done=4) as shown:
        shown.advance(5, "main", loss="0.5")
    text = sys.stderr.getvalue()
    assert "\r" in text
    assert "main" in text
    assert "5/8" in text
    assert "loss=0.5" in text


def test_items_are_passed_on_in_order_and_counted(clock, capsys):
    def items():
        for number in range(4):
            clock.now += 6
            yield number

    assert list(metered(items(), "segmenting", 4)) == [0, 1, 2, 3]
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "segmenting: 2 of 4 it",
        "segmenting: 4 of 4 it",
    ]


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h")])
def test_times_are_given_in_the_unit_that_a_reader_can_grasp(seconds, words):
    assert in_words(seconds) == words
