"""The agent: acts by the protocol of Stable-Baselines3, takes images apart, and survives a trip to disk."""

import copy
import random

import numpy as np
import pytest
import torch

from acis_env import SegmentationEnv, SegmentationVectorEnv, dynamics
from acis_env.datasets.preprocessing import Squeeze, parse_preprocessing, resize_masks
from acis_env.observations import unpack
from agents.algorithms.rollout import run_episodes
from agents.models.agent import Agent
from agents.models.checkpoints import load_checkpoint, save_checkpoint
from agents.models.composition import Composition, PictureMasks, compose_label_map

ODD = (50, 70)


@pytest.fixture
def env(leaves, tiny):
    return SegmentationVectorEnv(3, scenes=leaves.dataset, weights=tiny)


@pytest.fixture
def observation(env):
    return env.reset(seed=0)[0]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (*ODD, 3), dtype=np.uint8)


@pytest.fixture
def show(agent, leaves):
    """A function that begins episodes in the pictures of some of `leaves`, of which it tells nothing else."""
    return lambda indices: agent.source.begin_images(leaves.gather(list(indices))[0], max_steps=6)


def row(observation, index):
    """One scene of an observation, in numpy, as the single environment gives it."""
    return {key: value[index].numpy() for key, value in observation.items()}


def test_actions_are_the_policys_mean_scaled_to_the_environments_units(agent, observation):
    actions, memory = agent.predict(observation)
    planes = [observation[key] for key in ("image", "foreground", "angles")]
    context = torch.cat(planes, dim=1) / 255
    out = agent.actor(agent.actor.condition(context), observation["mask"] / 255, agent.actor.initial_memory(3))
    np.testing.assert_allclose(actions, (out.mean / 3).clamp(-1, 1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(memory, out.memory)
    assert actions.dtype == np.float32


def test_a_single_observation_gets_a_single_action_and_equals_its_row_of_a_batch(agent, observation):
    batch, batch_memory = agent.predict(observation)
    for index in range(3):
        action, memory = agent.predict(row(observation, index))
        assert action.shape == (4,)
        np.testing.assert_allclose(action, batch[index], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(memory[0], batch_memory[index], rtol=1e-4, atol=1e-5)


def test_the_state_is_carried_and_forgotten_where_an_episode_starts(agent, observation):
    first, memory = agent.predict(observation)
    second, _ = agent.predict(observation, memory)
    assert np.abs(second - first).max(1).min() > 1e-4
    kept = memory.clone()
    mixed, _ = agent.predict(observation, memory, episode_start=np.array([True, False, True]))
    np.testing.assert_array_equal(mixed[[0, 2]], first[[0, 2]])
    np.testing.assert_array_equal(mixed[1], second[1])
    assert torch.equal(memory, kept)  # the caller's state stays as it was


def test_sampled_actions_vary_about_the_mean_with_the_policys_width(agent, observation):
    torch.manual_seed(0)
    mean, memory = agent.predict(observation)
    np.testing.assert_array_equal(agent.predict(observation)[0], mean)
    agent.action_scale = 100.0  # so that nothing is clipped
    mean = agent.predict(observation)[0]
    samples = np.stack([agent.predict(observation, deterministic=False)[0] for _ in range(300)])
    context = torch.cat([observation[key] for key in ("image", "foreground", "angles")], dim=1) / 255
    out = agent.actor(agent.actor.condition(context), observation["mask"] / 255, torch.zeros_like(memory))
    width = torch.exp(0.5 * out.log_variance) / 100
    np.testing.assert_allclose(samples.std(0), width, rtol=0.2)
    assert (np.abs(samples.mean(0) - mean) < 5 * width.numpy() / 300**0.5).all()


def test_actions_stay_within_the_action_space(agent, observation, env):
    agent.actor.skip.bias.data[:4] = torch.tensor([50.0, -50.0, 0.0, 50.0])
    for deterministic in (True, False):
        actions, _ = agent.predict(observation, deterministic=deterministic)
        assert env.action_space.contains(actions)
        assert actions[:, 0].tolist() == [1, 1, 1]
        assert actions[:, 1].tolist() == [-1, -1, -1]


def test_an_observation_of_another_size_is_an_error_that_names_both_sizes(agent):
    observation = {key: np.zeros((c, 64, 32), np.uint8) for key, c in (("image", 3), ("mask", 1))}
    observation |= {key: np.zeros((c, 64, 32), np.uint8) for key, c in (("foreground", 1), ("angles", 8))}
    with pytest.raises(ValueError, match=r"\(32, 32\).*\[1, 64, 32\]"):
        agent.predict(observation)


def test_an_episode_played_through_the_environment_gives_the_masks_of_the_mean_policy(agent, leaves, tiny, show):
    env = SegmentationEnv(scenes=leaves.dataset, weights=tiny, action_scale=agent.action_scale)
    observation, info = env.reset(seed=0, options={"scene_index": 1})
    expected = agent.predict_masks(show([1]), min_steps=4).masks[0, :4]
    memory, masks, terminated = None, [], False
    while not terminated:
        action, memory = agent.predict(observation, memory)
        observation, _, terminated, truncated, info = env.step(action)
        masks.append(env._slot.state.predicted_mask[0, 0])
        assert not truncated
    assert len(masks) == info["num_instances"] == 4
    errors = (torch.stack(masks) - expected).abs().mean((1, 2))
    assert errors.max() < 0.01  # observations are rounded to bytes
    assert (expected[1:] - expected[:-1]).abs().mean((1, 2)).min() > 2 * errors.max()


def test_the_actions_of_a_refining_agent_decode_to_the_masks_it_segments_with(agent, leaves, tiny, tmp_path):
    Agent(agent.actor, tiny, max_steps=4, action_scale=50.0, refine=True).save(tmp_path / "agent.pt")
    plain, agent = agent, Agent.load(tmp_path / "agent.pt")
    env = SegmentationEnv(scenes=leaves.dataset, weights=tiny)
    observation, _ = env.reset(seed=0, options={"scene_index": 1})
    context = unpack(observation, agent.device)[0][None]
    no_labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    mask, draft = (
        each.predict_masks(dynamics.reset(context, no_labels, each.decoder, 1, 1), min_steps=1).masks[:, :1]
        for each in (agent, plain)
    )
    torch.testing.assert_close(mask, tiny.autoencoder.reconstruct(context, (draft >= 0.5).float()))
    assert (mask - draft).abs().max() > 0.01
    code = torch.from_numpy(agent.predict(observation)[0])[None] * agent.action_scale
    decoder = tiny.autoencoder.decoder  # an environment's, which knows nothing of drafts
    torch.testing.assert_close(decoder(code, decoder.condition(context)), mask, rtol=1e-3, atol=1e-4)


def test_inference_predicts_the_masks_of_a_training_episode_without_noise(agent, begin, tiny):
    state = begin(tiny)
    with torch.no_grad():
        episodes = run_episodes(agent.actor, agent.decoder, state)
    prediction = agent.predict_masks(state, min_steps=4)
    for t, step in enumerate(episodes.steps):
        in_inference = prediction.masks[: len(step.reward), t]
        torch.testing.assert_close(in_inference, step.predicted_mask[:, 0], rtol=1e-4, atol=1e-5)


def test_stable_baselines_evaluates_the_agent_as_a_plain_loop_does(agent, leaves, tiny):
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation")
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    def make():
        return SegmentationEnv(scenes=leaves.dataset, weights=tiny)

    venv = DummyVecEnv([lambda: Monitor(make())])
    venv.seed(7)
    rewards, lengths = evaluation.evaluate_policy(agent, venv, n_eval_episodes=4, return_episode_rewards=True)
    env, expected = make(), []
    for episode in range(4):
        observation, _ = env.reset(seed=7 if episode == 0 else None)
        memory, rewards_of_episode, terminated = None, [], False
        while not terminated:
            action, memory = agent.predict(observation, memory)
            observation, reward, terminated, _, _ = env.step(action)
            rewards_of_episode.append(reward)
        expected.append((sum(rewards_of_episode), len(rewards_of_episode)))
    assert lengths == [length for _, length in expected]
    assert rewards == pytest.approx([total for total, _ in expected], abs=1e-4)
    assert len(set(lengths)) > 1


@pytest.mark.parametrize("channels_first", [False, True])
def test_an_image_of_any_size_gets_a_label_map_and_masks_of_its_own_size(agent, image, stop_after, channels_first):
    stop_after(agent.actor, [3])
    result = agent.segment(image.transpose(2, 0, 1) if channels_first else image)
    assert result.label_map.shape == ODD
    assert result.label_map.dtype == np.int32
    assert result.masks.shape == (3, *ODD)
    assert result.masks.dtype == bool
    assert result.stopped
    assert result.order == sorted(set(result.label_map.ravel()) - {0})


def test_soft_masks_are_returned_on_request_and_hard_ones_are_where_they_reach_the_threshold(agent, image, stop_after):
    stop_after(agent.actor, [3])
    soft = agent.segment(image, soft=True)
    stop_after(agent.actor, [3])
    hard = agent.segment(image)
    assert soft.masks.dtype == np.float32
    assert soft.masks.min() >= 0
    assert soft.masks.max() <= 1
    np.testing.assert_array_equal(hard.masks, soft.masks >= agent.composition.threshold)
    np.testing.assert_array_equal(hard.label_map, compose_label_map(soft.masks, agent.composition))
    np.testing.assert_array_equal(hard.label_map, soft.label_map)


@pytest.mark.parametrize("count", [0, 1, 2, 300])
@pytest.mark.parametrize("threshold", [0.01, 0.5, 0.99])
def test_masks_enlarged_one_at_a_time_make_the_label_map_of_all_together(count, threshold):
    masks = np.random.default_rng(0).integers(0, 6, (count, 4, 6)).astype(np.float32) / 5  # with ties
    resized = resize_masks(masks, (9, 7))
    rule = Composition(threshold)
    found = PictureMasks.joined([masks], (9, 7), Squeeze((4, 6)), rule)
    label_map = found.label_map(rule)
    np.testing.assert_array_equal(label_map, compose_label_map(resized, rule))
    np.testing.assert_array_equal(found.hard(threshold), resized >= threshold)
    assert label_map.dtype == np.int32


def test_both_layouts_of_an_image_are_the_same_image(agent, image):
    one, other = agent.segment(image), agent.segment(image.transpose(2, 0, 1))
    np.testing.assert_array_equal(one.masks, other.masks)


def test_an_image_of_the_networks_size_gets_the_networks_own_masks(agent, leaves, show):
    image = leaves.dataset[1].image
    result = agent.segment(image, soft=True)
    prediction = agent.predict_masks(show([1]))
    np.testing.assert_array_equal(result.masks, prediction.masks[0, : len(result.masks)])


@pytest.mark.parametrize(("own", "given", "expected"), [(6, None, 6), (6, 2, 2), (2, 5, 5), (6, 0, 0)])
def test_the_cap_on_steps_ends_what_the_unit_does_not(agent, image, stop_after, own, given, expected):
    agent.max_steps = own
    stop_after(agent.actor, [99])
    result = agent.segment(image, given)
    assert len(result.masks) == expected
    assert not result.stopped


def test_stopping_at_once_gives_an_empty_segmentation(agent, image, stop_after):
    stop_after(agent.actor, [0])
    result = agent.segment(image)
    assert result.masks.shape == (0, *ODD)
    assert result.label_map.shape == ODD
    assert not result.label_map.any()
    assert result.order == []
    assert result.stopped


def test_stopping_right_at_the_cap_counts_as_stopping(agent, image, stop_after):
    stop_after(agent.actor, [2])
    result = agent.segment(image, max_steps=2)
    assert len(result.masks) == 2
    assert result.stopped


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((8, 9), np.uint8),
        np.zeros((8, 9, 4), np.uint8),
        np.zeros((8, 9, 3), np.float32),
        np.zeros((2, 8, 9, 3), np.uint8),
        np.zeros((0, 9, 3), np.uint8),
    ],
)
def test_what_is_no_rgb_image_is_an_error_that_names_its_shape_and_type(agent, bad):
    with pytest.raises(ValueError, match="image must be uint8 RGB") as error:
        agent.segment(bad)
    assert f"{bad.dtype} {list(bad.shape)}" in str(error.value)


def test_the_number_of_masks_tells_where_the_unit_stopped_even_if_it_had_to_go_on(agent, show, stop_after):
    stop_after(agent.actor, [2, 0, 99, 5])
    prediction = agent.predict_masks(show([0, 1, 2, 3]), max_steps=4, min_steps=6)
    assert prediction.masks.shape[:2] == (4, 6)
    assert prediction.num_masks.tolist() == [2, 0, 4, 4]  # the cap holds for those who would go beyond it
    assert prediction.stopped.tolist() == [True, True, False, False]


def test_a_batch_goes_on_until_its_last_unit_has_stopped_and_no_longer(agent, show, stop_after):
    stop_after(agent.actor, [1, 3])
    prediction = agent.predict_masks(show([0, 1]), max_steps=6)
    assert prediction.masks.shape[1] == 3
    assert prediction.num_masks.tolist() == [1, 3]
    assert prediction.stopped.all()


def test_a_unit_that_has_stopped_is_not_asked_again(agent, show):
    class Wavering(torch.nn.Module):
        signs = iter([1.0, -1.0, 1.0, -1.0, 1.0])

        def forward(self, features):
            return torch.full((1, 1), next(self.signs))

    agent.actor.termination = Wavering()
    assert agent.predict_masks(show([1]), max_steps=4, min_steps=4).num_masks.tolist() == [1]


def test_masks_of_a_scene_do_not_depend_on_the_batch(agent, show):
    together = agent.predict_masks(show(range(4)), min_steps=3)
    for i in range(4):
        alone = agent.predict_masks(show([i]), min_steps=3)
        torch.testing.assert_close(alone.masks[0, :3], together.masks[i, :3], rtol=1e-3, atol=1e-3)
        assert alone.num_masks[0] == together.num_masks[i]


def test_the_label_map_gives_each_pixel_to_its_most_probable_mask_above_the_threshold():
    masks = np.random.default_rng(0).random((4, 6, 7), dtype=np.float32)
    masks[:, 0, 0] = [0.1, 0.2, 0.7, 0.69]
    masks[:, 0, 1] = 0.3
    label_map = compose_label_map(masks, Composition(0.7))
    for y in range(6):
        for x in range(7):
            values = masks[:, y, x].tolist()
            label = values.index(max(values)) + 1 if max(values) >= np.float32(0.7) else 0
            assert label_map[y, x] == label
    assert label_map[0, 0] == 3  # the threshold itself is in
    assert label_map[0, 1] == 0
    assert 0 < (label_map == 0).mean() < 1


def test_an_agent_gives_the_same_masks_after_a_trip_to_disk(agent, image, tmp_path):
    agent.max_steps, agent.action_scale = 4, 2.5
    agent.composition = Composition(0.4, "first-predicted", 3.0)
    agent.save(tmp_path / "new folder" / "agent.pt")
    for path in (tmp_path / "new folder", tmp_path / "new folder" / "agent.pt"):
        loaded = Agent.load(path)
        assert (loaded.max_steps, loaded.composition, loaded.action_scale) == (4, agent.composition, 2.5)
        np.testing.assert_array_equal(loaded.segment(image).masks, agent.segment(image).masks)
        np.testing.assert_array_equal(loaded.segment(image).label_map, agent.segment(image).label_map)
    assert not any(parameter.requires_grad for parameter in loaded.actor.parameters())


@pytest.mark.parametrize("name", ["squeeze", "shorter-side", "halve-crop", "tile", "tile:0.5"])
def test_an_image_is_segmented_by_the_preprocessing_of_the_agent_and_its_inverse(agent, image, tmp_path, name):
    own = Agent(agent.actor, agent.pretrained, max_steps=3, preprocessing=name)
    result = own.segment(image, soft=True)
    own.save(tmp_path / "agent.pt")
    again = Agent.load(tmp_path / "agent.pt")
    assert again.preprocessing == own.preprocessing == parse_preprocessing(name, (32, 32))
    np.testing.assert_array_equal(again.segment(image, soft=True).masks, result.masks)
    found = []
    for window in own.preprocessing.images(image.transpose(2, 0, 1)):
        prediction = own.predict_masks(own.source.begin_images(torch.from_numpy(window)[None], 3), 3)
        found.append(prediction.masks[0, : int(prediction.num_masks[0])].numpy())
    joined = PictureMasks.joined(found, ODD, own.preprocessing)
    label_map, masks = joined.label_map(own.composition), joined.soft()
    assert masks.shape == result.masks.shape
    np.testing.assert_allclose(result.masks, masks, atol=1e-5)
    assert (result.label_map != label_map).mean() < 0.01


def test_a_large_image_is_segmented_in_batches_of_windows(agent, monkeypatch):
    own = Agent(agent.actor, agent.pretrained, max_steps=2, preprocessing="tile")
    large = np.random.default_rng(0).integers(0, 256, (100, 110, 3), dtype=np.uint8)
    expected = own.segment(large)
    monkeypatch.setattr("agents.models.segmentation.MAX_WINDOWS", 5)
    sizes = []
    predict = own.predict_masks
    monkeypatch.setattr(own, "predict_masks", lambda state, cap: (sizes.append(len(state)), predict(state, cap))[1])
    result = own.segment(large)
    assert sizes == [5, 5, 5, 5]
    assert (result.label_map != expected.label_map).mean() < 0.01
    assert result.stopped == expected.stopped


def test_an_agent_that_was_saved_before_there_was_a_choice_squeezes(agent, tmp_path):
    state = agent.state_dict()
    del state["config"]["preprocessing"]
    save_checkpoint(state, tmp_path / "agent.pt", "agent")
    assert Agent.load(tmp_path / "agent.pt").preprocessing == Squeeze((32, 32))


def test_missing_truncated_and_foreign_files_are_named_in_the_error(agent, tmp_path):
    path = tmp_path / "agent.pt"
    with pytest.raises(FileNotFoundError, match=r"agent\.pt: no such file"):
        Agent.load(path)
    with pytest.raises(FileNotFoundError, match=r"agent\.pt: no such file"):
        Agent.load(tmp_path)  # a folder without an agent

    agent.save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no checkpoint at all", whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"agent\.pt: not a whole checkpoint"):
            Agent.load(path)

    torch.save(torch.zeros(2), path)
    with pytest.raises(ValueError, match=r"agent\.pt: expected a checkpoint, got Tensor"):
        Agent.load(path)
    save_checkpoint({"format": "acis-run-1"}, path)
    with pytest.raises(ValueError, match=r"agent\.pt: expected the format 'acis-agent-4', got 'acis-run-1'$"):
        Agent.load(path)


def test_an_agent_of_an_older_version_is_refused_with_what_to_do(agent, tmp_path):
    save_checkpoint({**agent.state_dict(), "format": "acis-agent-3"}, tmp_path / "agent.pt")
    message = r"got 'acis-agent-3'; .* another version of acis-env: train it again with this one, or use that version"
    with pytest.raises(ValueError, match=message):
        Agent.load(tmp_path)


def test_weights_that_do_not_fit_their_configuration_are_named_in_the_error(agent, tmp_path):
    state = agent.state_dict()
    state["config"]["actor"]["hidden"] = 9
    save_checkpoint(state, tmp_path / "agent.pt")
    with pytest.raises(ValueError, match=r"agent\.pt: actor does not fit.*head\.0\.weight is \[8, 22\]"):
        Agent.load(tmp_path)
    state["config"]["actor"]["hiddn"] = 8
    save_checkpoint(state, tmp_path / "agent.pt")
    with pytest.raises(ValueError, match=r"agent\.pt: hiddn: unknown key, .* 'hidden'"):
        Agent.load(tmp_path)


def test_a_file_that_runs_code_when_unpickled_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"format": Trap()}, tmp_path / "agent.pt")
    with pytest.raises(ValueError, match=r"agent\.pt"):
        load_checkpoint(tmp_path / "agent.pt")
    assert not (tmp_path / "sprung").exists()


def test_an_interrupted_save_leaves_the_old_agent(agent, tmp_path, monkeypatch):
    agent.save(tmp_path / "agent.pt")
    before = (tmp_path / "agent.pt").read_bytes()

    def fail(content, file):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        agent.save(tmp_path / "agent.pt")
    assert (tmp_path / "agent.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["agent.pt"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state["config"].update(max_steps=0), r"max_steps must be from 1 to 65536, got 0"),
        (lambda state: state["config"].update(max_steps=2_000_000_000), r"max_steps must be from .*, got 2000000000"),
        (
            lambda s: s["config"]["composition"].update(threshold=float("nan")),
            r"threshold must be in \(0, 1\), got nan",
        ),
        (
            lambda state: state["config"].update(action_scale=float("inf")),
            "action_scale must be a .*, got inf",
        ),
        (lambda state: state["config"].update(refine="no"), "refine: expected bool, got 'no'"),
        (lambda state: state["config"].pop("composition"), "composition: missing key"),
        (lambda state: state["config"].pop("actor"), "actor must be an object, got NoneType"),
        (lambda state: state.pop("config"), "config must be an object, got NoneType"),
        (lambda state: state.pop("context"), "context must be an object, got NoneType"),
        (lambda state: state["config"]["actor"].update(memory_size=2_000_000), r"memory_size must be .*, got 2000000"),
        (lambda state: state["config"]["actor"].update(layers=60_000), "layers must be from 1 to 32, got 60000"),
        (lambda state: state["actor"].update({"skip.bias": 3}), "skip.bias is int, expected a tensor"),
        (lambda state: state["actor"]["skip.bias"].fill_(float("nan")), "skip.bias holds NaN or infinity"),
    ],
)
def test_what_no_agent_can_be_is_named_in_one_line(agent, tmp_path, change, named):
    state = copy.deepcopy(agent.state_dict())
    change(state)
    save_checkpoint(state, tmp_path / "agent.pt")
    with pytest.raises(ValueError, match=rf"agent\.pt: .*({named})") as error:
        Agent.load(tmp_path)
    assert "\n" not in str(error.value)


def test_any_flipped_bit_of_an_agents_file_is_noticed(agent, tmp_path):
    agent.save(tmp_path / "agent.pt")
    whole, draw = (tmp_path / "agent.pt").read_bytes(), random.Random(0)
    for _ in range(100):
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole) - 1)] ^= 1 << draw.randrange(8)
        (tmp_path / "agent.pt").write_bytes(flipped)
        with pytest.raises(ValueError, match=r"agent\.pt: (damaged|not a whole checkpoint)"):
            Agent.load(tmp_path)


def test_an_agent_without_a_checksum_is_loaded_with_a_warning(agent, tmp_path, caplog):
    torch.save(agent.state_dict(), tmp_path / "agent.pt")
    assert Agent.load(tmp_path).max_steps == agent.max_steps
    assert "agent.pt has no checksum" in caplog.text
