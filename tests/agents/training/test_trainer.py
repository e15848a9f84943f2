"""The training loop: what a run leaves behind, how it goes through its schedule, and that it learns."""

import json
from dataclasses import replace

import pytest
import torch
from gymnasium.wrappers.vector import TransformReward
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from acis_env.weights import save_weights
from agents.algorithms import Baseline, BaselineConfig
from agents.algorithms.base import core_of
from agents.algorithms.rollout import split_episodes
from agents.evaluation.evaluation import evaluate
from agents.evaluation.segmenters import agent_segmenter
from agents.models.agent import Agent
from agents.models.checkpoints import load_checkpoint, save_checkpoint
from agents.models.critic import CriticConfig
from agents.training.config import Stage
from agents.training.presets import PRESETS
from agents.training.trainer import Trainer, load_config

MYOPIC = BaselineConfig(learning_rate=1e-2)


@pytest.fixture
def stages(algorithms):
    """Algorithms one after the other, the last two of which share their critic."""
    actor_critic, expansion = algorithms["actor-critic"], algorithms["value-expansion"]
    return (
        Stage("init", MYOPIC, 2, sequence_length=1),
        Stage("cross-entropy", BaselineConfig(objective="cross-entropy"), 1),
        Stage("actor-critic", actor_critic, 2),
        Stage("first", replace(expansion, critic_warmup=0), 1),
        Stage("main", replace(expansion, critic_warmup=0), 2),
    )


def same_bits(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def trained_actor(config, folder):
    return Trainer(config, folder).run().actor.state_dict()


def test_a_run_leaves_everything_that_evaluation_and_resumption_need(run_config, stages, tmp_path):
    run_config = replace(run_config, stages=stages, eval_every=3)
    trainer = Trainer(run_config, tmp_path / "run")
    agent = trainer.run()
    names = {path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith("events.")}
    assert names == {
        "commands.json",
        "config.json",
        "history.json",
        "checkpoint.pt",
        "checkpoint.previous.pt",
        "agent.pt",
        "initial.pt",
    }
    assert load_config(tmp_path / "run") == run_config
    history = json.loads((tmp_path / "run" / "history.json").read_text())["history"]
    assert [scores["iteration"] for scores in history] == [3, 6, 8]
    assert {"sbd", "abs_dic", "sbd_gt_stop", "dice_star"} <= history[0].keys()
    source = core_of(run_config.env.make_evaluation("val")).source
    for scores, name in ((history[-1], "agent.pt"), (None, "initial.pt")):
        loaded = Agent.load(tmp_path / "run" / name)
        measured = evaluate("agent", agent_segmenter(loaded), source, loaded.composition).mean
        assert scores is None or measured == {key: scores[key] for key in measured}
    assert same_bits(agent.actor.state_dict(), Agent.load(tmp_path / "run").actor.state_dict())
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["iteration"] == 8

    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.step for event in events.Scalars("critic/loss")] == [4, 5, 6, 7, 8]
    assert [event.step for event in events.Scalars("actor/objective")] == [1, 2, 3, 5, 6, 7, 8]  # 4: a warm-up
    assert [event.step for event in events.Scalars("val/sbd")] == [3, 6, 8]
    assert [event.step for event in events.Scalars("val_critic_explained_variance/01")] == [6, 8]  # 3: no critic yet
    assert [event.step for event in events.Images("val/scenes")] == [3, 6, 8]


def test_the_initial_agent_is_the_one_before_the_last_stage(run_config, tmp_path):
    first, last = Stage("init", MYOPIC, 2), Stage("main", MYOPIC, 2)
    Trainer(replace(run_config, stages=(first, last)), tmp_path / "both").run()
    Trainer(replace(run_config, stages=(first,)), tmp_path / "first").run()
    before = Agent.load(tmp_path / "both" / "initial.pt").actor.state_dict()
    assert same_bits(before, Agent.load(tmp_path / "first").actor.state_dict())
    assert not same_bits(before, Agent.load(tmp_path / "both").actor.state_dict())


@pytest.mark.parametrize("kind", ["baseline", "actor-critic"])
def test_the_seed_decides_a_run(run_config, algorithms, tmp_path, kind):
    config = replace(run_config, stages=(Stage("main", algorithms[kind], 4),))
    runs = [trained_actor(replace(config, seed=seed), tmp_path / str(i)) for i, seed in enumerate((0, 0, 1))]
    assert same_bits(runs[0], runs[1])
    assert not same_bits(runs[0], runs[2])


def begun_in(config, folder, monkeypatch):
    """The fresh episodes and learning rates of every iteration of the baseline; nothing is learnt."""
    seen = []

    def update(algorithm, states, progress):
        (state,) = states
        seen.append((state, progress.decay(algorithm.config.decay) * algorithm.config.learning_rate))
        return {"actor/objective": torch.zeros(())}

    monkeypatch.setattr(Baseline, "update_actor", update)
    Trainer(config, folder).run()
    return seen


def test_a_curriculum_stage_gives_all_but_so_many_instances_away(run_config, tmp_path, monkeypatch):
    env = run_config.env.having(scene_options={"min_leaves": 3, "max_leaves": 3, "length": 6})
    runs = []
    for length in (None, 1):
        config = replace(run_config, env=env, stages=(Stage("main", MYOPIC, 3, sequence_length=length),))
        runs.append(begun_in(config, tmp_path / str(length), monkeypatch))
    prefilled_choices = set()
    for (whole, _), (prefilled, _) in zip(*runs, strict=True):
        assert whole.num_instances.tolist() == [3] * 4
        assert whole.accumulated_mask.sum() == 0
        assert prefilled.num_instances.tolist() == [1] * 4
        remains, given = prefilled.label_map == 1, prefilled.accumulated_mask[:, 0] == 1
        assert not (remains & given).any()
        assert torch.equal(remains | given, whole.label_map > 0)  # equal scenes, by equal seeds
        for scene in range(4):
            labels = whole.label_map[scene][remains[scene]].unique()
            assert len(labels) == 1
            prefilled_choices |= set(labels.tolist())
    assert len(prefilled_choices) > 1


def test_a_length_of_a_stage_reaches_the_environment_and_is_taken_back_by_the_next(run_config, tmp_path):
    lengths = (1, None, 2, None)
    for own in (None, 3):  # what the environment was made with
        env = run_config.env.having(sequence_length=own)
        stages = tuple(Stage(str(n), MYOPIC, 1, sequence_length=length) for n, length in enumerate(lengths))
        trainer = Trainer(replace(run_config, env=env, stages=stages), tmp_path / str(own))
        seen = []
        for _ in lengths:
            trainer.train_iteration()
            seen.append((trainer.core.rules.sequence_length, int(trainer.core.state.num_instances.max())))
        assert [length for length, _ in seen] == [1, own, 2, own]
        assert all(length is None or longest <= length for length, longest in seen)
        assert seen[1][1] == 3  # whole again
        assert core_of(trainer._val_env).rules.sequence_length is None


def test_episodes_are_sorted_and_scenes_differ_from_iteration_to_iteration(run_config, tmp_path, monkeypatch):
    env = run_config.env.having(scene_options={"max_leaves": 4, "length": 8})
    config = replace(run_config, env=env, stages=(Stage("main", MYOPIC, 4),))
    states = [state for state, _ in begun_in(config, tmp_path, monkeypatch)]
    for state in states:
        lengths = state.num_instances.tolist()
        assert lengths == sorted(lengths, reverse=True)
    assert len({state.context.sum().item() for state in states}) == 4


def test_slots_show_different_scenes_and_other_seeds_others(run_config, tmp_path):
    shown = []
    for seed in (0, 1):
        config = replace(run_config, seed=seed, stages=(Stage("main", MYOPIC, 1),))
        core = Trainer(config, tmp_path / str(seed)).core
        shown.append([int(index) for index in core.get_state().scene_index])
    assert len(set(shown[0])) > 1
    assert shown[0] != shown[1]


def test_the_learning_rate_falls_within_each_stage(run_config, tmp_path, monkeypatch):
    stages = (Stage("init", BaselineConfig(learning_rate=1.0), 2), Stage("main", BaselineConfig(learning_rate=2.0), 10))
    rates = [rate for _, rate in begun_in(replace(run_config, stages=stages), tmp_path, monkeypatch)]
    assert rates == pytest.approx([1, 1, *[2] * 7, 0.6, 0.6, 0.2])


def test_the_learning_rate_of_algorithm_1_falls_within_what_follows_its_warm_up(run_config, algorithms, tmp_path):
    algorithm = replace(algorithms["actor-critic"], learning_rate=2.0, critic_warmup=4)
    trainer = Trainer(replace(run_config, stages=(Stage("main", algorithm, 14),)), tmp_path)
    rates = []
    for _ in range(14):
        trainer.train_iteration()
        rates.append(trainer.learner.actor_optimizer.param_groups[0]["lr"])
    assert rates[4:] == pytest.approx([*[2] * 7, 0.6, 0.6, 0.2])


def test_training_with_refinement_plays_and_leaves_an_agent_with_refined_masks(run_config, tiny, tmp_path):
    config = replace(run_config, env=run_config.env.having(refine=True), stages=(Stage("main", MYOPIC, 1),))
    trainer = Trainer(config, tmp_path)
    algorithm = MYOPIC.make(trainer.learner)
    (state,) = split_episodes(trainer.core.state)
    step = algorithm.play(state, torch.Generator()).steps[0]
    context = state.context[: len(step.latent)]
    draft = tiny.autoencoder.decoder(step.latent, tiny.autoencoder.decoder.condition(context))
    expected = tiny.autoencoder.reconstruct(context, (draft >= 0.5).float())
    torch.testing.assert_close(step.predicted_mask, expected, rtol=1e-3, atol=1e-3)
    assert (expected - draft).abs().max() > 0.01
    assert trainer.agent().refine


def test_training_on_three_scenes_finds_their_instances(config, learned, tmp_path):
    env = replace(config.env.having(scene_options={}), val_kwargs={})
    learner = replace(
        config.learner, actor=replace(config.learner.actor, memory_size=32, hidden=32), start_from_encoder=False
    )
    stages = (Stage("main", BaselineConfig(learning_rate=1e-2), 60),)
    run_config = replace(config, env=env, stages=stages, batch_size=3, learner=learner)
    parts = {"scenes": learned.scenes.dataset, "weights": learned.pretrained}
    val_env = env.make_evaluation("val", **parts)
    trainer = Trainer(run_config, tmp_path, env.make(3, **parts), val_env)
    before = evaluate("agent", agent_segmenter(trainer.agent()), core_of(val_env).source).mean
    trainer.run()
    after = trainer.history[-1]
    assert before["dice_star"] < 0.5
    assert after["dice_star"] > before["dice_star"] + 0.2


def test_only_the_first_validation_scenes_are_evaluated_and_no_more_than_there_are(run_config, tmp_path):
    source = core_of(run_config.env.make_evaluation("val")).source
    for number, measured in ((2, 2), (50, 3)):
        config = replace(run_config, stages=(Stage("main", MYOPIC, 1),), eval_scenes=number)
        agent = Trainer(config, tmp_path / str(number)).run()
        history = json.loads((tmp_path / str(number) / "history.json").read_text())["history"]
        expected = evaluate("agent", agent_segmenter(agent), source, num_scenes=measured)
        assert len(expected.scenes) == measured
        assert {name: history[-1][name] for name in expected.mean} == expected.mean


def test_what_was_learnt_is_kept_where_the_validation_scenes_cannot_be_read(run_config, tmp_path, monkeypatch):
    def gone(*args, **kwargs):
        raise FileNotFoundError("val/00_rgb.png: no such image")

    config = replace(run_config, stages=(Stage("main", MYOPIC, 3),), eval_every=2, checkpoint_every=100)
    trainer = Trainer(config, tmp_path / "run")
    monkeypatch.setattr("agents.training.trainer.evaluate", gone)
    with pytest.raises(FileNotFoundError, match="no such image"):
        trainer.run()
    assert same_bits(Agent.load(tmp_path / "run").actor.state_dict(), trainer.learner.actor.state_dict())
    monkeypatch.undo()
    resumed = Trainer.resume(tmp_path / "run")
    assert resumed.iteration == 2
    assert same_bits(resumed.run().actor.state_dict(), trained_actor(config, tmp_path / "whole"))


def test_a_schedule_without_stages_is_refused(run_config, tmp_path):
    with pytest.raises(ValueError, match="stages must hold at least one stage, got none"):
        Trainer(run_config, tmp_path / "run")


def test_an_agent_is_not_trained_on_weak_networks_unless_that_is_asked_for(run_config, tiny, tmp_path):
    weak = tmp_path / "weak"
    save_weights(weak, tiny.context_network)
    save_weights(weak, tiny.autoencoder, {"held_out": {"reconstruction_dice": 0.25}})
    config = replace(run_config, stages=(Stage("main", MYOPIC, 1),), env=run_config.env.having(weights=str(weak)))
    message = f"{weak}: reconstruction Dice of the decoder is 0.250 .* expected at least 0.5.*accept_weak_weights=True"
    with pytest.raises(ValueError, match=message):
        Trainer(config, tmp_path / "run")
    Trainer(config, tmp_path / "run", accept_weak_weights=True).run()
    assert Trainer.resume(tmp_path / "run").iteration == 1


def test_a_stage_that_cannot_be_trained_is_refused_before_the_first_begins(run_config, algorithms, tmp_path):
    cross_entropy = Stage("late", BaselineConfig(objective="cross-entropy"), 1)
    config = replace(
        run_config, env=run_config.env.having(refine=True), stages=(Stage("main", MYOPIC, 1), cross_entropy)
    )
    with pytest.raises(ValueError, match=r"stage 'late': objective must be .score. where masks are refined"):
        Trainer(config, tmp_path)
    own_trunk = replace(algorithms["actor-critic"], critic=CriticConfig(trunk_widths=(4, 4)))
    config = replace(run_config, stages=(Stage("main", MYOPIC, 1), Stage("late", own_trunk, 1)))
    with pytest.raises(
        ValueError, match=r"stage 'late': start_from_encoder needs .* without trunk_widths, got \(4, 4\)"
    ):
        Trainer(config, tmp_path)
    with pytest.raises(ValueError, match=r"start_from_encoder needs actor\.skip, got False"):
        replace(config.learner, actor=replace(config.learner.actor, skip=False))


def test_an_agent_is_cut_off_after_as_many_masks_as_the_fullest_training_scene_has(run_config, tmp_path):
    config = replace(run_config, stages=(Stage("main", MYOPIC, 1),))
    by_scenes = Trainer(replace(config, max_steps=None), tmp_path / "scenes")
    assert by_scenes.agent().max_steps == by_scenes.core.scenes.max_instances == 3
    assert Trainer(replace(config, max_steps=2), tmp_path / "two").agent().max_steps == 2


def test_an_agent_segments_as_its_environment_does(run_config, tmp_path):
    env = run_config.env.having(threshold=0.3, action_scale=2.0)
    agent = Trainer(replace(run_config, env=env, stages=(Stage("main", MYOPIC, 1),)), tmp_path).agent()
    assert (agent.composition.threshold, agent.action_scale) == (0.3, 2.0)


def test_a_stage_has_its_own_rate_of_the_critic(run_config, algorithms, tmp_path):
    rates = (0.5, 1e-3)
    stages = [Stage("", replace(algorithms["actor-critic"], critic_learning_rate=rate), 1) for rate in rates]
    trainer = Trainer(replace(run_config, stages=tuple(stages)), tmp_path)
    found = []
    for _ in stages:
        trainer.train_iteration()
        found.append(trainer.algorithm.critic.optimizer.param_groups[0]["lr"])
    assert tuple(found) == rates


@pytest.mark.parametrize("kind", ["actor-critic", "value-expansion", "critic-ranking"])
def test_a_critic_goes_on_in_the_next_stage_if_that_is_of_the_same_kind_and_form(
    run_config, algorithms, tmp_path, kind
):
    first = algorithms[kind]
    other = replace(first, critic=replace(first.critic, hidden=(4, 4)))
    again = replace(first, critic_learning_rate=0.0)
    stages = (Stage("one", first, 2), Stage("two", again, 1), Stage("three", other, 1))
    trainer = Trainer(replace(run_config, stages=stages), tmp_path)
    critics = []
    for _ in range(4):
        trainer.train_iteration()
        critics.append({k: v.clone() for k, v in trainer.algorithm.critic.critic.state_dict().items()})
    assert not same_bits(critics[0], critics[1])
    assert same_bits(critics[1], critics[2])  # at a rate of nothing
    assert {k: v.shape for k, v in critics[2].items()} != {k: v.shape for k, v in critics[3].items()}


def test_a_critic_that_ranks_begins_anew_where_another_number_of_candidates_is_compared(
    run_config, algorithms, tmp_path
):
    first = algorithms["critic-ranking"]
    more = replace(first, candidates=replace(first.candidates, number=3))
    trainer = Trainer(replace(run_config, stages=(Stage("one", first, 2), Stage("two", more, 1))), tmp_path)
    for number in (2, 2, 3):
        trainer.train_iteration()
        assert all(kept.values.shape[1] == number for kept in trainer.algorithm.critic.replay)
    assert len(trainer.algorithm.critic.replay) == 1


def test_a_critic_that_ranks_begins_anew_where_returns_are_discounted_otherwise(run_config, algorithms, tmp_path):
    first = algorithms["critic-ranking"]
    first = replace(first, candidates=replace(first.candidates, value="return"))
    stages = (Stage("one", first, 2), Stage("two", replace(first, gamma=0.5), 1))
    trainer = Trainer(replace(run_config, stages=stages), tmp_path)
    for _ in range(3):
        trainer.train_iteration()
    assert len(trainer.algorithm.critic.replay) == 1


def test_the_optimiser_of_the_actor_begins_anew_once_pixels_are_no_longer_summed_up(run_config, tmp_path):
    """Adam's moments of longer gradients would hold the actor back; a resumed run has none of them either."""
    sums = BaselineConfig(objective="cross-entropy", clip_norm=200.0, decay=())
    score = BaselineConfig(learning_rate=1e-3, decay=())
    for name, first, count in (("sums", sums, 1), ("scores", score, 4)):
        stages = (Stage("one", first, 3), Stage("two", score, 2))
        trainer = Trainer(replace(run_config, stages=stages, checkpoint_every=4), tmp_path / name)
        for _ in range(4):
            trainer.train_iteration()
        trainer.save()
        for same in (trainer, Trainer.resume(tmp_path / name)):
            moments = same.learner.actor_optimizer.state.values()
            assert {int(moment["step"]) for moment in moments} == {count}


def test_a_stage_may_act_by_samples(run_config, tmp_path, monkeypatch):
    acted, play = [], Baseline.play

    def play_and_note(algorithm, state, generator):
        episodes = play(algorithm, state, generator)
        acted.append(all(torch.equal(step.latent, step.mean) for step in episodes.steps))
        return episodes

    monkeypatch.setattr(Baseline, "play", play_and_note)
    stages = tuple(Stage(str(sample), replace(MYOPIC, sample=sample), 1) for sample in (False, True))
    trainer = Trainer(replace(run_config, stages=stages), tmp_path)
    for _ in stages:
        trainer.train_iteration()
    assert acted == [True, False]


def test_a_reward_that_a_wrapper_changes_is_what_the_critic_learns(run_config, algorithms, tmp_path):
    targets = []
    for factor in (1.0, 10.0):
        env = TransformReward(run_config.env.make(4), lambda reward, factor=factor: factor * reward)
        config = replace(run_config, stages=(Stage("main", algorithms["actor-critic"], 1),))
        trainer = Trainer(config, tmp_path / str(factor), env)
        trainer.train_iteration()
        batch = trainer.algorithm.replay.sample(100, torch.Generator().manual_seed(0))
        targets.append(trainer.algorithm.critic_targets(batch))
    assert targets[0].abs().max() > 0.01
    torch.testing.assert_close(targets[1], 10 * targets[0])


def test_an_environment_that_resets_itself_is_refused(run_config, tmp_path):
    config = replace(run_config, stages=(Stage("main", MYOPIC, 1),))
    with pytest.raises(ValueError, match=r"env must have autoreset_mode=.Disabled., got .SameStep."):
        Trainer(config, tmp_path, run_config.env.make(4, autoreset_mode="SameStep"))


def test_an_iteration_of_a_stage_is_one_of_its_algorithm(run_config, algorithms, tmp_path):
    config = replace(run_config, stages=(Stage("main", algorithms["actor-critic"], 3),))
    trainer = Trainer(config, tmp_path)
    losses = [trainer.train_iteration() for _ in range(3)]
    assert trainer.iteration == 3
    assert "actor/objective" not in losses[0]  # a warm-up
    assert {"critic/loss", "rollout/return", "actor/objective"} <= losses[1].keys()
    with pytest.raises(ValueError, match="the schedule is over after iteration 3 of 3: nothing is left to do"):
        trainer.train_iteration()


def test_what_costs_extra_is_measured_now_and_then(run_config, algorithms, tmp_path):
    config = replace(run_config, monitor_every=2, stages=(Stage("main", algorithms["critic-ranking"], 4),))
    trainer = Trainer(config, tmp_path)
    assert ["critic/rank_correlation" in trainer.train_iteration() for _ in range(4)] == [True, False, True, False]


@pytest.mark.parametrize("name", ["paper-cvppp", "paper-kitti"])
def test_a_published_schedule_asks_for_its_scenes_and_networks(name, tmp_path):
    folder = name.removeprefix("paper-")
    with pytest.raises(FileNotFoundError, match=rf"weights 'weights/{folder}': expected a folder"):
        Trainer(PRESETS[name], tmp_path)


def test_what_is_no_run_is_an_error_that_names_the_file_and_what_to_do(run_config, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint\.pt: no such file"):
        Trainer.resume(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"config\.json: no such file; expected the folder of a run"):
        load_config(tmp_path)
    save_checkpoint({"format": "acis-agent-1"}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: expected the format 'acis-run-4', got 'acis-agent-1'$"):
        Trainer.resume(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a whole checkpoint"):
        Trainer.resume(tmp_path)
    for text, named in (
        ('{"seed": 0', "expected a JSON object, got what is not JSON"),
        ("[]", "expected a JSON object, got list"),
        ('{"seed": 0}', "expected the format 'acis-run-4', got None"),
        (
            '{"format": "acis-run-4", "seed": 0, "speed": 1}',
            "speed: unknown key, the nearest of TrainConfig are 'seed'",
        ),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=rf"config\.json: {named}"):
            load_config(tmp_path)


def test_a_run_of_an_earlier_version_is_an_error_of_one_line_that_says_what_to_do(tmp_path):
    save_checkpoint({"format": "acis-run-3", "config": {"phases": []}}, tmp_path / "checkpoint.pt")
    (tmp_path / "config.json").write_text('{"scenes": "leaves", "phases": [{"name": "main", "objective": "ac"}]}')
    for read, named in ((Trainer.resume, "checkpoint"), (load_config, "config")):
        with pytest.raises(ValueError, match=rf"{named}\..*train it again with this one, or use that version") as error:
            read(tmp_path)
        assert "\n" not in str(error.value)


def test_what_the_checkpoint_says_is_what_config_json_says(run_config, stages, tmp_path):
    config = replace(run_config, stages=stages[:1])
    Trainer(config, tmp_path).run()
    assert load_config(tmp_path) == config == Trainer.resume(tmp_path).config


def test_an_environment_with_another_number_of_slots_than_the_batch_is_refused(config, baseline, make_env, tmp_path):
    settings = replace(config, stages=(Stage("main", baseline, 1),), batch_size=4)
    with pytest.raises(ValueError, match=r"env must have batch_size / processes = 4 / 1 = 4 slots, got 3"):
        Trainer(settings, tmp_path, make_env(3), make_env(1))


def test_a_run_on_streamed_scenes_trains_the_same_actor(run_config, algorithms, tmp_path):
    stages = (Stage("init", MYOPIC, 2, sequence_length=1), Stage("main", algorithms["actor-critic"], 3))
    run_config = replace(run_config, stages=stages, eval_every=3)
    streamed = replace(run_config, env=run_config.env.having(memory_budget=0))
    actors = [trained_actor(config, tmp_path / name) for config, name in ((run_config, "kept"), (streamed, "streamed"))]
    assert same_bits(*actors)
    assert Trainer.resume(tmp_path / "streamed").core.scenes.is_streamed
