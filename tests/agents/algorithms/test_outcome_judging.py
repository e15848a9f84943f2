"""Judging whole outcomes: what the critic is taught, and that it learns it."""

from dataclasses import replace

import pytest
import torch

from acis_env.metrics import best_dice, segmentation_metrics
from acis_env.ops.labels import IGNORED
from agents.algorithms import CriticRankingConfig, MetricStoppingConfig, OutcomeJudgingConfig
from agents.algorithms.distributed import ProcessGroup
from agents.algorithms.outcome_judging import Labels, turned
from agents.models.agent import Agent
from agents.models.composition import compose_label_map
from agents.models.outcome_critic import OutcomeCritic, label_measures
from agents.models.outcomes import OutcomeChoiceConfig

JUDGING = OutcomeJudgingConfig(
    decay=(),
    hidden=(8, 8),
    widths=(4, 6),
    choice=OutcomeChoiceConfig(episodes=2),
    scene_batches=2,
    updates=4,
    update_scenes=8,
    update_labels=32,
    replay_size=2,
)


@pytest.mark.parametrize("name", ["scene_batches", "updates", "update_scenes", "update_labels", "replay_size"])
def test_settings_that_mean_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        replace(JUDGING, **{name: 0})


def test_the_best_dice_of_labels_is_that_of_the_mask_of_each_with_every_instance():
    generator = torch.Generator().manual_seed(0)
    predictions = torch.randint(0, 4, (2, 12, 12), generator=generator)
    predictions[1][predictions[1] == 2] = 0  # a label that occurs nowhere
    truth = torch.randint(-1, 3, (2, 12, 12), generator=generator)
    found, areas = best_dice(predictions, truth, 3, 5)
    assert found.shape == areas.shape == (2, 3)
    for scene in range(2):
        known = truth[scene] != IGNORED
        for label in (1, 2, 3):
            region = (predictions[scene] == label) & known
            instances = [truth[scene] == n for n in (1, 2)]
            assert areas[scene, label - 1] == region.sum()
            dice = [2 * (region & i).sum() / (region.sum() + i.sum()) if region.any() else 0.0 for i in instances]
            assert found[scene, label - 1].item() == pytest.approx(float(max(dice)))
    assert best_dice(predictions, torch.zeros_like(truth), 3, 0)[0].eq(0).all()


def test_labels_of_all_prefixes_are_taught_with_their_measures_and_their_true_quality(make_algorithm, begin, tiny):
    algorithm = make_algorithm(JUDGING)
    core = algorithm.learner.core
    state = begin(tiny, [0, 3, 5, 7])
    labels, measured = algorithm.play(state)
    masks = Agent(algorithm.learner.actor, tiny).predict_masks(state, algorithm.capacity, algorithm.capacity).masks
    known = algorithm.critic.condition(state.context)
    measures, qualities, values, true = [], [], algorithm.critic.values(known, masks, core.threshold), []
    for t in range(algorithm.capacity + 1):
        label_maps = torch.stack([torch.from_numpy(compose_label_map(found[:t].numpy())) for found in masks])
        found, present = label_measures(known, masks[:, :t], core.threshold)
        measures.append(found[present])
        qualities.append(best_dice(label_maps, state.label_map, algorithm.capacity, 4)[0][:, :t][present])
        pairs = zip(label_maps.numpy(), state.label_map.numpy(), strict=True)
        true += [segmentation_metrics(prediction, truth)["sbd"] for prediction, truth in pairs]
    torch.testing.assert_close(labels.measures, torch.cat(measures))
    torch.testing.assert_close(labels.qualities, torch.cat(qualities))
    assert labels.qualities.std() > 0.02  # or there would be nothing to learn
    scores = torch.tensor(true).view_as(values)
    assert measured["outcomes/best"].item() == pytest.approx(scores.amax(0).mean().item(), abs=1e-5)
    assert measured["outcomes/chosen"].item() == pytest.approx(
        scores[values.argmax(0), range(4)].mean().item(), abs=1e-5
    )


def test_a_turned_picture_has_its_vectors_turned_with_it():
    rows, columns = torch.meshgrid(torch.arange(8.0) - 2, torch.arange(8.0) - 5, indexing="ij")
    distance = (rows**2 + columns**2).sqrt()
    outward = torch.stack([rows, columns]) / distance.clamp_min(1)  # away from row 2, column 5
    planes = torch.cat([distance.expand(4, 8, 8), outward])[None]
    centres = set()
    for seed in range(30):
        image, vectors = turned(planes, torch.Generator().manual_seed(seed))[0].split([4, 2])
        row, column = divmod(int(image[0].argmin()), 8)
        y, x = torch.meshgrid(torch.arange(8.0) - row, torch.arange(8.0) - column, indexing="ij")
        torch.testing.assert_close(vectors, torch.stack([y, x]) / distance.new_tensor(1).maximum((y**2 + x**2).sqrt()))
        centres.add((row, column))
    assert centres == {(y, x) for y, x in ((2, 5), (2, 2), (5, 5), (5, 2))}


def test_the_critic_learns_to_count_and_to_tell_good_label_maps_from_bad_ones(make_algorithm, at):
    algorithm = make_algorithm(replace(JUDGING, learning_rate=1e-2, updates=16, replay_size=8))
    policy = [parameter.clone() for parameter in algorithm.learner.actor.parameters()]
    history = [algorithm.train_iteration(at(seed, iteration=seed)) for seed in range(40)]

    def mean(name, part):
        return torch.stack([losses[f"outcomes/{name}"] for losses in part]).mean()

    assert mean("count_error", history[-8:]) < 0.6 * mean("count_error", history[:8])
    assert mean("quality_error", history[-8:]) < 0.7 * mean("quality_error", history[:2])
    missed = [mean("best", part) - mean("chosen", part) for part in (history[:2], history[-8:])]
    assert missed[1] < 0.5 * missed[0]
    assert all(map(torch.equal, policy, algorithm.learner.actor.parameters()))


def test_the_trained_agent_chooses_by_the_critic_and_searches_as_the_stage_before(make_algorithm, at):
    ranking = make_algorithm(CriticRankingConfig(decay=()))
    assert JUDGING.make(ranking.learner, ranking).outcomes is None  # nothing has been learnt
    ranking.train_iteration(at())
    judging = JUDGING.make(ranking.learner, ranking)
    judging.train_iteration(at())
    assert judging.selection.critic is ranking.selection.critic
    assert judging.outcomes.critic is judging.critic
    assert judging.outcomes.config == JUDGING.choice
    assert JUDGING.make(ranking.learner, judging).previous is ranking


def test_a_stage_after_it_goes_on_with_what_was_learnt(make_algorithm, at):
    first = make_algorithm(JUDGING)
    first.train_iteration(at())
    again = JUDGING.make(first.learner, first)
    assert all(map(torch.equal, first.critic.parameters(), again.critic.parameters()))
    assert again.outcomes is not None
    other = replace(JUDGING, hidden=(4, 4)).make(first.learner, first)
    assert other.outcomes is None
    stopping = MetricStoppingConfig().make(first.learner, first)
    assert stopping.outcomes.critic is first.critic


@pytest.mark.parametrize("config", [JUDGING, CriticRankingConfig(decay=())])
def test_the_next_stage_of_one_process_of_several_keeps_all_that_this_process_has(make_algorithm, at, config):
    first = make_algorithm(config)
    first.train_iteration(at())
    first.learner.group = ProcessGroup(1, 2)
    kept, again = (replay_of(algorithm) for algorithm in (first, config.make(first.learner, first)))
    assert len(kept) == len(again) > 0
    for one, other in zip(kept, again, strict=True):
        assert all(map(torch.equal, one, other))


def replay_of(algorithm):
    state = algorithm.state_dict()
    return state["replay"] if "replay" in state else state["critic"]["replay"]


def test_parts_of_episodes_are_refused(make_algorithm, make_env):
    with pytest.raises(ValueError, match=r"sequence_length must be None where outcomes are judged, .* got 2"):
        make_algorithm(JUDGING, make_env(sequence_length=2))


def test_episodes_without_a_label_teach_the_count_alone(make_algorithm):
    algorithm = make_algorithm(JUDGING)
    nothing = Labels(torch.zeros(0, 12), torch.zeros(0))
    losses = algorithm.update(torch.rand(3, 6, 32, 32), torch.tensor([1, 2, 3]), nothing, 1e-3)
    assert losses["outcomes/quality_error"] == 0
    assert losses["outcomes/count_loss"] > 0


def test_a_label_on_ignored_pixels_alone_is_not_taught(make_algorithm, begin, tiny):
    algorithm = make_algorithm(JUDGING)
    state = begin(tiny, [0, 3, 5, 7])
    labels, _ = algorithm.play(state)
    ignored = replace(state, label_map=torch.full_like(state.label_map, IGNORED))
    assert len(algorithm.play(ignored)[0].qualities) == 0 < len(labels.qualities)


def test_several_processes_share_the_labels_of_one_and_one_has_those_of_several(make_algorithm, at):
    states = []
    for seed in range(2):
        algorithm = make_algorithm(JUDGING)
        for iteration in range(2):
            algorithm.train_iteration(at(seed, iteration=iteration))
        states.append(algorithm.state_dict())
    algorithm.load_state_dict(states)
    merged = algorithm.state_dict()["replay"]
    for parts, whole in zip(zip(*(state["replay"] for state in states), strict=True), merged, strict=True):
        for tensors, tensor in zip(zip(*parts, strict=True), whole, strict=True):
            assert torch.equal(torch.cat(tensors), tensor)
    assert len(merged) == 2


def test_what_was_learnt_is_restored(make_algorithm, at):
    algorithm, other = make_algorithm(JUDGING), make_algorithm(JUDGING)
    for seed in range(3):
        algorithm.train_iteration(at(seed, iteration=seed))
    state = algorithm.state_dict()
    assert len(state["replay"]) == 2
    other.load_state_dict([state])
    for name, weights in algorithm.critic.state_dict().items():
        assert torch.equal(other.critic.state_dict()[name], weights)
    assert isinstance(other.outcomes.critic, OutcomeCritic)
    for labels, kept in zip(other.state_dict()["replay"], state["replay"], strict=True):
        assert all(map(torch.equal, labels, kept))
