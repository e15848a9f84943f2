"""What agents learn from does not look at ignored pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from acis_env.datasets import Scene
from acis_env.datasets.scene import IGNORED
from acis_env.reward import instance_areas
from agents.algorithms import BaselineConfig, ValueExpansionConfig
from agents.algorithms.baseline import cross_entropy
from agents.algorithms.rollout import assigned_scores, split_episodes


class VoidScenes(list):
    """A list of scenes, which is a data set."""

    @property
    def max_instances(self):
        return max(scene.num_instances for scene in self)


@pytest.fixture
def with_void(leaves):
    """The plants of `leaves`, in which a random quarter of the pixels is ignored."""

    def ignore(scene):
        rng = np.random.default_rng(scene.num_instances)
        label_map = np.where(rng.random((32, 32)) < 0.25, IGNORED, scene.label_map).astype(np.int32)
        return Scene(scene.image, label_map, scene.name)

    return VoidScenes(ignore(scene) for scene in leaves.dataset)


def own_score(masks, label_maps, areas):
    """A differentiable score of one's own that reads every pixel of masks and label maps."""
    assert label_maps.min() >= 0
    inside = torch.stack([(masks * (label_maps == n + 1)).sum((1, 2)) for n in range(areas.shape[1])], dim=1)
    return inside / (masks.sum((1, 2))[:, None] + areas).clamp_min(1)


@pytest.mark.parametrize("score", ["dice", "iou", own_score])
def test_ignored_pixels_of_a_mask_change_no_score_and_get_no_gradient(score):
    rng = torch.Generator().manual_seed(0)
    label_map = torch.randint(-1, 3, (3, 8, 8), generator=rng).to(torch.int8)
    areas, ignored = instance_areas(label_map, 2), (label_map == IGNORED)[:, None]
    masks, others = (torch.rand(3, 1, 8, 8, generator=rng) for _ in range(2))
    instance = torch.tensor([0, 1, 1])
    gradients, values = [], []
    for drawn in (masks, torch.where(ignored, others, masks)):
        drawn.requires_grad_()
        scores = assigned_scores(drawn, label_map, areas, instance, score)
        scores.sum().backward()
        values.append(scores.detach())
        gradients.append(drawn.grad)
    assert torch.equal(*values)
    assert torch.equal(*gradients)
    assert not gradients[0][ignored].any()
    assert gradients[0][~ignored].any()


def test_cross_entropy_is_summed_over_the_pixels_that_are_not_ignored():
    rng = torch.Generator().manual_seed(0)
    masks, chance = (torch.rand(2, 1, 4, 5, generator=rng) for _ in range(2))
    targets, ignored = (chance > 0.5).float(), torch.rand(2, 1, 4, 5, generator=rng) < 0.4
    expected = [0.0, 0.0]
    for scene, _, row, column in (~ignored).nonzero().tolist():
        probability = float(masks[scene, 0, row, column])
        right = probability if targets[scene, 0, row, column] else 1 - probability
        expected[scene] -= np.log(right)
    assert cross_entropy(masks, targets, ignored).tolist() == pytest.approx(expected, rel=1e-5)


def scramble(episodes):
    """`episodes` with other predictions at ignored pixels."""
    rng, steps = torch.Generator().manual_seed(1), []
    for t, step in enumerate(episodes.steps):
        noise = torch.rand(step.predicted_mask.shape, generator=rng)
        mask = torch.where(episodes.ignored(t), noise, step.predicted_mask)
        steps.append(replace(step, predicted_mask=mask))
    return replace(episodes, steps=steps)


CONFIGS = [
    BaselineConfig(objective="score"),
    BaselineConfig(objective="cross-entropy"),
    BaselineConfig(objective="cross-entropy", bptt_steps=None),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_objective_of_the_baseline_has_no_gradient_to_ignored_pixels(config, make_algorithm, make_env, with_void):
    algorithm = make_algorithm(config, env=make_env(scenes=with_void, num_envs=6, sampler="sequential"))
    (state,) = split_episodes(algorithm.learner.core.state)
    episodes = algorithm.play(state, torch.Generator().manual_seed(0))
    terms, others = algorithm.terms(episodes), algorithm.terms(scramble(episodes))
    for t, (term, other) in enumerate(zip(terms, others, strict=True)):
        assert torch.equal(term, other)
        (gradient,) = torch.autograd.grad(term.sum(), episodes.steps[t].predicted_mask, retain_graph=True)
        ignored = episodes.ignored(t)
        assert ignored.any()
        assert not gradient[ignored].any()
        assert gradient[~ignored].any()


@pytest.mark.parametrize("name", ["baseline", "actor_critic", "value_expansion"])
def test_algorithms_learn_from_scenes_with_ignored_pixels(
    name, make_algorithm, make_env, with_void, baseline, actor_critic, at
):
    shared = {f: getattr(actor_critic, f) for f in ("critic", "max_remaining", "critic_batch_size", "critic_warmup")}
    configs = {"baseline": baseline, "actor_critic": actor_critic, "value_expansion": ValueExpansionConfig(**shared)}
    algorithm = make_algorithm(configs[name], env=make_env(scenes=with_void, sequence_length=2))
    before = [parameter.clone() for parameter in algorithm.learner.actor.policy_parameters()]
    losses = algorithm.train_iteration(at(0))
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in losses.values())
    after = algorithm.learner.actor.policy_parameters()
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    if name != "baseline":
        kept = algorithm.replay.sample(1000, torch.Generator())
        assert (kept.label_map == IGNORED).any((1, 2)).all()
        assert kept.label_map.dtype == torch.int8
