"""The training loop: what a run leaves behind, how it goes through its schedule, and that it learns."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from acis_env.augment import NO_AUGMENTATION
from acis_env.datasets import Leaves
from agents.evaluation.evaluation import agent_segmenter, evaluate
from agents.models.agent import Agent, load_checkpoint
from agents.training.config import PRESETS, Phase
from agents.training.trainer import FirstScenes, Trainer, load_config

AC_PHASES = (Phase("warm-up", "critic", 2), Phase("main", "ac", 4, 1e-2, kl_weight=1e-3))
SEVERAL_OBJECTIVES = (
    Phase("init", "bl-score", 2, 1e-2, sequence_length=1),
    Phase("bce", "bl-bce", 1),
    Phase("warm-up", "critic", 2),
    Phase("first", "ac-score", 1, kl_weight=1e-3),
    Phase("main", "ac-score", 2, kl_weight=1e-3),
)


@pytest.fixture
def run_config(config, tiny_weights):
    return replace(config, weights=str(tiny_weights), phases=AC_PHASES, checkpoint_every=2)


def actor_of(trainer):
    return trainer.learner.actor.state_dict()


def same_bits(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_leaves_everything_that_evaluation_and_resumption_need(run_config, tmp_path):
    run_config = replace(run_config, phases=SEVERAL_OBJECTIVES, eval_every=3)
    trainer = Trainer(run_config, tmp_path / "run")
    agent = trainer.run()
    names = {path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith("events.")}
    assert names == {"config.json", "history.json", "checkpoint.pt", "agent.pt", "initial.pt"}
    assert load_config(tmp_path / "run") == run_config
    history = json.loads((tmp_path / "run" / "history.json").read_text())["history"]
    assert [scores["iteration"] for scores in history] == [3, 6, 8]
    assert {"sbd", "abs_dic", "sbd_gt_stop", "dice_star"} <= history[0].keys()
    for scores, name in ((history[-1], "agent.pt"), (None, "initial.pt")):
        loaded = Agent.load(tmp_path / "run" / name)
        measured = evaluate("agent", agent_segmenter(loaded), trainer.val_scenes, loaded.threshold).mean
        assert scores is None or measured == {key: scores[key] for key in measured}
    assert same_bits(agent.actor.state_dict(), Agent.load(tmp_path / "run").actor.state_dict())
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["iteration"] == 8

    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.step for event in events.Scalars("critic/loss")] == [3, 4, 5, 6, 7]
    assert [event.step for event in events.Scalars("actor/objective")] == [0, 1, 2, 5, 6, 7]
    assert [event.step for event in events.Scalars("val/sbd")] == [3, 6, 8]


def test_the_initial_agent_is_the_one_before_the_last_phase(run_config, tmp_path):
    first, last = Phase("init", "bl-score", 2, 1e-2), Phase("main", "bl-score", 2, 1e-2)
    Trainer(replace(run_config, phases=(first, last)), tmp_path / "both").run()
    Trainer(replace(run_config, phases=(first,)), tmp_path / "first").run()
    before = Agent.load(tmp_path / "both" / "initial.pt").actor.state_dict()
    assert same_bits(before, Agent.load(tmp_path / "first").actor.state_dict())
    assert not same_bits(before, Agent.load(tmp_path / "both").actor.state_dict())


def test_the_seed_decides_a_run(run_config, tmp_path):
    one, two, other = (
        actor_of_run(replace(run_config, seed=seed), tmp_path / str(i)) for i, seed in enumerate((0, 0, 1))
    )
    assert same_bits(one, two)
    assert not same_bits(one, other)


def actor_of_run(config, folder):
    trainer = Trainer(config, folder)
    trainer.run()
    return actor_of(trainer)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_being_written_and_read(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(asdict(PRESETS[name])))
    assert load_config(tmp_path) == PRESETS[name]


def states_of_run(config, folder, monkeypatch):
    """The fresh episodes and learning rates of every actor update."""
    trainer, seen = Trainer(config, folder), []

    def update(batch, phase, generator, decay, *rest):
        seen.append((batch.parts[0].state, decay * phase.learning_rate))
        return {"actor/objective": torch.zeros(())}

    monkeypatch.setattr(trainer.learner, "update_actor", update)
    trainer.run()
    return seen


def test_a_curriculum_phase_gives_all_but_so_many_instances_away(run_config, tmp_path, monkeypatch):
    runs = []
    for length in (None, 1):
        phases = (Phase("main", "bl-score", 3, sequence_length=length),)
        options = {"min_leaves": 3, "max_leaves": 3, "length": 6}
        config = replace(run_config, phases=phases, scene_options=options)
        runs.append(states_of_run(config, tmp_path / str(length), monkeypatch))
    prefilled_choices = set()
    for (whole, _), (prefilled, _) in zip(*runs, strict=True):
        assert whole.num_instances.tolist() == [3] * 4
        assert whole.accumulated_mask.sum() == 0
        assert prefilled.num_instances.tolist() == [1] * 4
        remains, given = prefilled.label_map == 1, prefilled.accumulated_mask[:, 0] == 1
        assert not (remains & given).any()
        assert torch.equal(remains | given, whole.label_map > 0)  # equal batches, by equal seeds
        for scene in range(4):
            labels = whole.label_map[scene][remains[scene]].unique()
            assert len(labels) == 1
            prefilled_choices |= set(labels.tolist())
    assert len(prefilled_choices) > 1


def test_episodes_are_sorted_and_scenes_differ_from_iteration_to_iteration(run_config, tmp_path, monkeypatch):
    config = replace(run_config, phases=(Phase("main", "bl-score", 4),), scene_options={"max_leaves": 4, "length": 8})
    states = [state for state, _ in states_of_run(config, tmp_path, monkeypatch)]
    for state in states:
        lengths = state.num_instances.tolist()
        assert lengths == sorted(lengths, reverse=True)
    assert len({state.context.sum().item() for state in states}) == 4


def test_the_learning_rate_falls_within_each_phase(run_config, tmp_path, monkeypatch):
    phases = (Phase("init", "bl-score", 2, 1.0), Phase("main", "bl-score", 10, 2.0))
    rates = [rate for _, rate in states_of_run(replace(run_config, phases=phases), tmp_path, monkeypatch)]
    assert rates == pytest.approx([1, 1, *[2] * 7, 0.6, 0.6, 0.2])


def test_training_with_refinement_plays_and_leaves_an_agent_with_refined_masks(run_config, tiny, tmp_path):
    trainer = Trainer(replace(run_config, refine=True), tmp_path, pretrained=tiny)
    part = trainer._begin_episodes(run_config.phases[0]).parts[0]
    step = trainer.learner.play(part).steps[0]
    context = part.state.context[: len(step.latent)]
    draft = tiny.autoencoder.decoder(step.latent, tiny.autoencoder.decoder.condition(context))
    expected = tiny.autoencoder.reconstruct(context, (draft >= 0.5).float())
    torch.testing.assert_close(step.predicted_mask, expected, rtol=1e-3, atol=1e-3)
    assert (expected - draft).abs().max() > 0.01
    assert trainer.agent().refine


def test_refinement_and_cross_entropy_are_refused_together(config):
    with pytest.raises(ValueError, match="refine must be False with the objective bl-bce, got True"):
        replace(config, refine=True, phases=(Phase("main", "bl-bce", 1),))


def test_training_on_three_scenes_finds_their_instances(config, learned, tmp_path):
    plants = learned.scenes.dataset
    run_config = replace(
        config,
        phases=(Phase("main", "bl-score", 60, 1e-2),),
        batch_size=3,
        augmentation=NO_AUGMENTATION,
        actor=replace(config.actor, memory_size=32, hidden=32),
        start_from_encoder=False,
    )
    trainer = Trainer(run_config, tmp_path, train=plants, val=plants, pretrained=learned.pretrained)
    before = evaluate("agent", agent_segmenter(trainer.agent()), trainer.val_scenes).mean
    trainer.run()
    after = trainer.history[-1]
    assert before["dice_star"] < 0.5
    assert after["dice_star"] > before["dice_star"] + 0.2


def test_only_the_first_scenes_are_taken_and_no_more_than_there_are():
    plants = Leaves("val", (32, 32), max_leaves=3, length=4)
    few = FirstScenes(plants, 2)
    assert [scene.name for scene in few] == [plants[0].name, plants[1].name]
    assert len(few) == 2
    assert few.max_instances == 3
    assert len(FirstScenes(plants, 50)) == 4


@pytest.mark.parametrize(
    ("phases", "named"),
    [((), "at least one phase"), ((Phase("a", "ac", 1), Phase("b", "ac-score", 1)), "must not mix")],
)
def test_a_schedule_that_cannot_be_run_is_refused(run_config, tmp_path, phases, named):
    with pytest.raises(ValueError, match=f"phases.*{named}"):
        Trainer(replace(run_config, phases=phases), tmp_path / "run")


def test_an_agent_is_cut_off_after_as_many_masks_as_the_fullest_training_scene_has(run_config, tmp_path):
    by_scenes = Trainer(replace(run_config, max_steps=None), tmp_path / "scenes")
    assert by_scenes.agent().max_steps == by_scenes.train_scenes.max_instances
    assert Trainer(replace(run_config, max_steps=2), tmp_path / "two").agent().max_steps == 2


def test_a_start_from_the_encoder_needs_what_it_fits_into(run_config):
    critic = replace(run_config.critic, trunk_widths=(4, 4))
    with pytest.raises(ValueError, match=r"needs actor.skip and no critic.trunk_widths, got True and \(4, 4\)"):
        replace(run_config, critic=critic)
    with pytest.raises(ValueError, match=r"needs actor.skip and no critic.trunk_widths, got False and \(\)"):
        replace(run_config, actor=replace(run_config.actor, skip=False))


def test_a_phase_has_its_own_rate_of_the_critic(run_config, tmp_path):
    phases = (Phase("fast", "critic", 1, critic_learning_rate=0.5), Phase("as the run", "critic", 1))
    trainer = Trainer(replace(run_config, phases=phases), tmp_path)
    rates = []
    for phase in phases:
        trainer._train_iteration(phase, 0.0)
        rates.append(trainer.learner.critic_optimizer.param_groups[0]["lr"])
    assert rates == [0.5, run_config.critic_learning_rate]


def test_a_phase_may_act_by_samples(run_config, tmp_path):
    trainer = Trainer(run_config, tmp_path)
    acted = []
    play = trainer.learner.play

    def play_and_note(*arguments, **options):
        episodes = play(*arguments, **options)
        acted.append(all(torch.equal(step.latent, step.mean) for step in episodes.steps))
        return episodes

    trainer.learner.play = play_and_note
    for sample in (False, True):
        trainer._train_iteration(Phase("main", "bl-bce", 1, sample=sample), 0.0)
    assert acted == [True, False]


def test_a_run_with_data_and_networks_of_its_own_resumes_with_these_alone(run_config, tiny, tmp_path):
    plants = Leaves("train", (32, 32), max_leaves=2, length=3)
    config = replace(run_config, phases=(Phase("main", "bl-score", 1),))
    Trainer(config, tmp_path, train=plants, pretrained=tiny).run()
    with pytest.raises(ValueError, match=r"was given \['train', 'pretrained'\], and resume got nothing"):
        Trainer.resume(tmp_path)
    resumed = Trainer.resume(tmp_path, train=plants, pretrained=tiny)
    assert (resumed.iteration, resumed.train_scenes.max_instances) == (1, 2)


@pytest.mark.parametrize(("name", "steps"), [("paper-cvppp", 21), ("paper-kitti", 16)])
def test_a_published_schedule_asks_for_its_scenes_and_networks(name, steps, tmp_path):
    preset = PRESETS[name]
    assert [phase.objective for phase in preset.phases][-4:] == ["critic", "ac", "ac", "ac"]
    assert preset.max_steps == steps
    assert not preset.start_from_encoder
    rates = [(phase.learning_rate, phase.critic_learning_rate) for phase in preset.phases[-3:]]
    assert rates == [(rate, 2 * rate) for rate in (5e-4, 5e-5, 1e-6)]
    with pytest.raises(FileNotFoundError, match=rf"weights 'weights/{name.removeprefix('paper-')}': expected a folder"):
        Trainer(preset, tmp_path)
