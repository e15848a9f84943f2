"""Segmenters: references with known answers, bounds that know the truth, and an actor that is blocked."""

from types import SimpleNamespace

import pytest
import torch

from acis_env.dynamics import Rules
from acis_env.metrics import segmentation_metrics
from acis_env.reward import score
from agents.evaluation.evaluation import evaluate
from agents.evaluation.segmenters import (
    agent_segmenter,
    block,
    outcome_bound,
    random_segmenter,
    reconstruction_segmenter,
    search_bounds,
)
from agents.models.agent import Agent
from agents.models.composition import compose_label_map
from agents.models.outcome_critic import OutcomeCritic, OutcomeCriticConfig
from agents.models.outcomes import OutcomeChoice, OutcomeChoiceConfig
from agents.models.visits import predict

PERFECT = {"sbd": 1, "abs_dic": 0, "sbd_gt_stop": 1, "dice_star": 1, "fbd": 1, "mucov": 1, "avg_fp": 0, "avg_fn": 0}


def perfect_autoencoder(context, masks):
    return masks


def test_the_reconstruction_of_a_perfect_autoencoder_is_perfect(source):
    pretrained = SimpleNamespace(autoencoder=SimpleNamespace(reconstruct=perfect_autoencoder))
    evaluation = evaluate("bound", reconstruction_segmenter(pretrained), source)
    assert {key: evaluation.mean[key] for key in PERFECT} == pytest.approx(PERFECT)
    assert evaluation.dice_at_step() == pytest.approx([1] * 4)


def test_the_reconstruction_of_a_poor_autoencoder_is_not(tiny, source):
    mean = evaluate("bound", reconstruction_segmenter(tiny), source).mean
    assert mean["sbd"] < 0.9


def test_a_reconstruction_has_no_mask_where_a_scene_has_no_such_instance(tiny, source):
    state, _ = source.begin([1, 4])  # of 4 leaves and of 1
    prediction = reconstruction_segmenter(tiny)(state)
    assert prediction.num_masks.tolist() == [4, 1]
    assert prediction.masks.shape[1] == 4
    assert prediction.masks[0].amax((1, 2)).min() > 0
    assert prediction.masks[1, 1:].abs().sum() == 0


def test_the_random_segmenter_is_decided_by_its_seed(tiny, source):
    state, _ = source.begin(range(12))
    first, again, other = (random_segmenter(tiny, 5, seed)(state) for seed in (0, 0, 1))
    assert torch.equal(first.masks, again.masks)
    assert torch.equal(first.num_masks, again.num_masks)
    assert not torch.equal(first.masks, other.masks)
    assert not torch.equal(first.num_masks, other.num_masks)
    assert first.masks.shape == (12, 5, 32, 32)
    assert first.num_masks.min() >= 1
    assert first.num_masks.max() <= 5


def test_a_choice_by_the_truth_begins_at_least_as_well_as_the_mean_in_every_scene(agent, source):
    state, _ = source.begin(range(12))
    first = []
    for segmenter in (agent_segmenter(agent), *search_bounds(agent, Rules()).values()):
        prediction = segmenter(state)
        first.append(score(prediction.masks[:, 0], state.label_map, state.areas).amax(1))
    mean, by_reward, by_return = first
    assert (by_reward >= mean - 1e-6).all()
    assert (by_reward > mean + 1e-4).any()
    assert not torch.allclose(by_reward, by_return)  # what follows counts, too
    assert prediction.num_masks.tolist() == state.num_instances.tolist()


def test_the_bound_searches_by_the_score_of_its_rules(agent, source):
    state, _ = source.begin(range(12))
    found = {}
    for name in ("dice", "iou", dark):
        segmenter = search_bounds(agent, Rules(score=name))["best of 16 by reward"]
        found[name] = segmenter(state).masks[:, 0]
    mean = agent_segmenter(agent)(state).masks[:, 0]
    darkness = {name: 1 - masks.mean((1, 2)) for name, masks in {**found, "mean": mean}.items()}
    assert (darkness[dark] >= darkness["mean"] - 1e-6).all()
    assert (darkness[dark] > darkness["dice"] + 1e-4).any()
    iou = {name: score(masks, state.label_map, state.areas, "iou").amax(1) for name, masks in found.items()}
    assert (iou["iou"] >= iou[dark] - 1e-6).all()


def dark(masks, label_maps, areas):
    """A score of one's own: the share of the picture that a mask leaves out, whatever the instance."""
    return (1 - masks.mean((1, 2)))[:, None].expand_as(areas) * (areas > 0)


@pytest.mark.parametrize("refine", [False, True])
def test_a_blocked_actor_reads_zeros_and_the_agent_itself_goes_on_as_before(agent, tiny, source, refine):
    agent = Agent(agent.actor, tiny, refine=refine)
    state, _ = source.begin([0, 1])
    shares = agent.actor.condition(state.context)
    mask, memory = torch.rand(2, 1, 32, 32), torch.rand_like(agent.actor.initial_memory(2))
    without_mask = agent.actor(shares, torch.zeros_like(mask), memory)
    without_memory = agent.actor(shares, mask, torch.zeros_like(memory))
    with_both = agent.actor(shares, mask, memory)
    for blocked, expected in ((block(agent, "mask"), without_mask), (block(agent, "memory"), without_memory)):
        out = blocked.actor(shares, mask, memory)
        assert torch.equal(out.mean, expected.mean)
        assert torch.equal(out.continue_logit, expected.continue_logit)
        assert not torch.equal(out.mean, with_both.mean)
    assert torch.equal(agent.actor(shares, mask, memory).mean, with_both.mean)


def test_the_bound_of_outcomes_is_the_best_of_all_prefixes_of_all_episodes(agent, tiny, begin):
    state = begin(tiny)
    critic = OutcomeCritic(OutcomeCriticConfig(max_count=6, widths=(4, 6), hidden=(8, 8)))
    choice = OutcomeChoice(critic, tiny.autoencoder.decoder, OutcomeChoiceConfig(episodes=3, spread=1.0))
    choosing = Agent(agent.actor, tiny, max_steps=4, outcomes=choice)
    scores = []
    for offsets in choice.offsets:
        masks = predict(agent.actor, tiny.autoencoder.decoder, state, None, 4, 4, offsets=offsets).masks
        scores.append(
            [[sbd(found[:t], truth) for t in range(5)] for found, truth in zip(masks, state.label_map, strict=True)]
        )
    scores = torch.tensor(scores)  # [K, B, T + 1]
    found = outcome_bound(choosing)(state)
    chosen = map(torch.from_numpy, found.counted())
    kept = [sbd(masks, truth) for masks, truth in zip(chosen, state.label_map, strict=True)]
    assert kept == pytest.approx(scores.amax((0, 2)).tolist())
    assert len(scores.amax(2).argmax(0).unique()) > 1  # or one episode would have done
    assert found.stopping == "best outcome"


def sbd(masks, label_map):
    return segmentation_metrics(compose_label_map(masks.numpy()), label_map.numpy())["sbd"]
