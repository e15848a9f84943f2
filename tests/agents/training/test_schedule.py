"""Where a run stands: by iterations, by its time, and after it was made longer."""

from dataclasses import replace

import pytest

from agents.algorithms import ActorCriticConfig, Baseline, BaselineConfig
from agents.models.agent import load_checkpoint
from agents.training import schedule as schedule_module
from agents.training.config import Stage
from agents.training.schedule import Schedule, extended
from agents.training.trainer import Trainer, load_config
from tests.reliability.compare import check_same_end

STAGES = (Stage("init", BaselineConfig(), 20), Stage("main", BaselineConfig(), 80))


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when it is told to: `clock.now`, in seconds."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(schedule_module, "time", clock)
    return clock


@pytest.fixture
def go_through(clock):
    """A function of a schedule and seconds per iteration: (stage, place) of each iteration to the end."""

    def run(schedule, seconds, most=10_000):
        places = []
        while not schedule.is_over and len(places) < most:
            places.append(schedule.begin_iteration())
            clock.now += seconds
            schedule.end_iteration()
        return places

    return run


def test_without_a_time_limit_every_iteration_has_its_own_place(config, go_through):
    places = go_through(Schedule(replace(config, stages=STAGES)), 5.0)
    assert places == [(0, n) for n in range(20)] + [(1, n) for n in range(80)]


@pytest.mark.parametrize(("seconds", "count"), [(0.1, 1200), (1.2, 100), (12.0, 10)])
def test_a_time_limit_is_kept_at_any_pace_and_stages_get_their_share_of_it(config, go_through, seconds, count):
    schedule = Schedule(replace(config, stages=STAGES, minutes=2.0))
    places = go_through(schedule, seconds)
    assert len(places) == pytest.approx(count, abs=1)
    assert schedule.seconds == pytest.approx(120, abs=seconds)
    assert sum(stage == 0 for stage, _ in places) == pytest.approx(count / 5, abs=1)
    for stage, length in ((0, 20), (1, 80)):
        own = [place for number, place in places if number == stage]
        assert own == sorted(own)
        share_of_a_step = seconds / (120 * length / 100)
        assert own[-1] >= length * (1 - 1.5 * share_of_a_step) - 1


def test_however_short_the_time_every_stage_has_an_iteration_and_the_last_of_them_ends_the_run(config, go_through):
    stages = tuple(Stage(str(n), BaselineConfig(), 10) for n in range(4))
    assert go_through(Schedule(replace(config, stages=stages, minutes=0.01)), 60.0) == [(0, 0), (1, 9), (2, 9), (3, 9)]


def test_an_interruption_costs_no_time(config, go_through, clock):
    timed = replace(config, stages=STAGES, minutes=2.0)
    first, second = Schedule(timed), Schedule(timed)
    begun = go_through(first, 3.0, most=15)
    state = first.state_dict()
    clock.now += 100_000
    second.load_state_dict(15, state)
    clock.now += 100_000
    assert len(begun + go_through(second, 3.0)) == 40


def test_learning_rates_fall_at_the_same_shares_of_the_time_and_the_agent_is_left(
    run_config, tmp_path, monkeypatch, clock
):
    steps = []
    stages = (Stage("main", BaselineConfig(learning_rate=1.0), 1000),)
    trainer = Trainer(replace(run_config, stages=stages, minutes=1.0), tmp_path)
    train = Trainer.train_iteration

    def train_and_wait(self):
        losses = train(self)
        steps.append(self.learner.actor_optimizer.param_groups[0]["lr"])
        clock.now += 3.0
        return losses

    monkeypatch.setattr(Trainer, "train_iteration", train_and_wait)
    trainer.run()
    assert len(steps) == pytest.approx(20, abs=2)
    assert [steps.count(pytest.approx(rate)) for rate in (1.0, 0.3, 0.1)] == pytest.approx([14, 4, 2], abs=1)
    assert steps == sorted(steps, reverse=True)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["iteration"] == len(steps)
    assert (tmp_path / "agent.pt").exists()
    assert trainer.history[-1]["iteration"] == len(steps)
    assert Trainer.resume(tmp_path).schedule.is_over


def test_a_run_whose_time_is_over_is_extended_by_iterations_after_those_it_has_made(config, go_through):
    timed = replace(config, stages=STAGES, minutes=2.0)
    schedule = Schedule(timed)
    places = go_through(schedule, 6.0)
    lengths = [sum(stage == number for stage, _ in places) for number in (0, 1)]
    longer = extended(timed, schedule.iteration, schedule.state_dict(), 7, "run")
    assert longer.minutes is None
    assert [stage.iterations for stage in longer.stages] == [lengths[0], lengths[1] + 7]
    with pytest.raises(ValueError, match=r"run: extend needs a run whose time is over, got .* iteration 3, 0\.3 of 2 "):
        extended(timed, 3, {"firsts": [0], "seconds": 18.0}, 7, "run")
    with pytest.raises(ValueError, match="extend must be at least 1, the number of iterations to add, got 0"):
        extended(timed, schedule.iteration, schedule.state_dict(), 0, "run")


@pytest.fixture
def longer(settings, algorithms):
    """A function of a kind and a length: the configuration of a run of two stages."""

    def make(kind, iterations):
        stages = (Stage("init", BaselineConfig(learning_rate=1e-2), 2), Stage("main", algorithms[kind], iterations))
        return replace(settings, stages=stages, eval_every=1000, checkpoint_every=1000)

    return make


@pytest.mark.parametrize("kind", ["baseline", "actor-critic", "critic-ranking"])
def test_a_run_extended_before_its_rates_have_fallen_ends_as_one_that_was_planned_so_long(longer, tmp_path, kind):
    Trainer(longer(kind, 12), tmp_path / "planned").run()
    trainer = Trainer(longer(kind, 8), tmp_path / "extended")
    for _ in range(5):
        trainer.train_iteration()
    trainer.save()
    Trainer.resume(tmp_path / "extended", extend=4).run()
    check_same_end(tmp_path / "planned", tmp_path / "extended", num_iterations=14, evaluated=(14,))


def test_a_finished_run_is_extended_and_an_interruption_of_that_is_made_good_by_resuming_it_alone(longer, tmp_path):
    for name in ("whole", "stopped"):
        Trainer(longer("actor-critic", 4), tmp_path / name).run()
    Trainer.resume(tmp_path / "whole", extend=6).run()
    Trainer.resume(tmp_path / "stopped", extend=6)  # and is killed before its first iteration
    trainer = Trainer.resume(tmp_path / "stopped")
    for _ in range(3):
        trainer.train_iteration()
    trainer.save()
    Trainer.resume(tmp_path / "stopped").run()
    check_same_end(tmp_path / "whole", tmp_path / "stopped", num_iterations=12, evaluated=(6, 12))
    assert load_config(tmp_path / "stopped").stages[1].iterations == 10


def test_learning_rates_of_a_finished_run_rise_again_if_it_is_extended_by_much(longer, tmp_path):
    Trainer(longer("baseline", 10), tmp_path).run()
    trainer, rates = Trainer.resume(tmp_path, extend=10), []
    for _ in range(10):
        trainer.train_iteration()
        rates.append(trainer.learner.actor_optimizer.param_groups[0]["lr"] / 1e-2)
    assert rates == pytest.approx([1] * 4 + [0.3] * 4 + [0.1] * 2)


def test_an_algorithm_is_told_how_many_iterations_of_its_stage_were_made_at_any_pace(
    config, clock, tmp_path, monkeypatch
):
    seen = []

    def train_iteration(algorithm, progress):
        clock.now += 7.0
        seen.append((progress.iteration, progress.done))
        return {}

    monkeypatch.setattr(Baseline, "train_iteration", train_iteration)
    trainer = Trainer(replace(config, stages=STAGES, minutes=1.0), tmp_path)
    while not trainer.schedule.is_over:
        trainer.train_iteration()
    assert seen == [(0, 0), (11, 1), (3, 0), (15, 1), (26, 2), (38, 3), (50, 4), (61, 5), (73, 6)]


def test_the_warm_up_of_a_critic_is_over_after_its_share_of_the_time(config, go_through):
    stage = Stage("main", ActorCriticConfig(critic_warmup=40), 400)
    places = go_through(Schedule(replace(config, stages=(stage,), minutes=1.0)), 1.0)
    assert sum(place < 40 for _, place in places) == pytest.approx(6, abs=1)
