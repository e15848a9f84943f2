"""Many slots at once: independent of each other, whatever the precision, device or decoder."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch

from acis_env import SegmentationVectorEnv, tree
from acis_env.matching import from_scratch
from acis_env.reward import score

COLOURFUL = {"rotation": 20, "brightness": 0.2, "saturation": 0.3}


def test_the_bundled_environment_runs_in_many_slots_under_its_name():
    envs = gym.make_vec("ACIS/Leaves-v0", num_envs=3, scene_options={"length": 3})
    assert isinstance(envs, SegmentationVectorEnv)
    observations, _ = envs.reset(seed=0)
    assert observations["image"].shape == (3, 3, 64, 64)
    _, rewards, *_ = envs.step(envs.action_space.sample())
    assert rewards.shape == (3,)


@pytest.mark.parametrize("options", [{}, {"augmentation": COLOURFUL, "context": "oracle", "score": "iou"}])
def test_a_slot_of_many_plays_as_the_single_environment_with_its_seed(
    make_env, make_vec, options, random_actions, assert_close_observations
):
    num_envs, steps, seed = 3, 14, 21
    actions = random_actions(steps, num_envs)
    envs = make_vec(num_envs, **options)
    observations, _ = envs.reset(seed=seed)
    record = [(observations, None, None, {})]
    for action in actions:
        observations, rewards, terminated, _, infos = envs.step(action)
        record.append((observations, rewards, terminated, infos))

    for slot in range(num_envs):
        env, episodes = make_env(**options), 0
        observation, _ = env.reset(seed=seed + slot)
        assert_close_observations({key: value[slot] for key, value in record[0][0].items()}, observation)
        for action, (observations, rewards, terminated, infos) in zip(actions[:, slot], record[1:], strict=True):
            observation, reward, is_over, _, info = env.step(action)
            assert reward == pytest.approx(float(rewards[slot]), abs=1e-5)
            assert is_over == bool(terminated[slot])
            if is_over:
                episodes += 1
                final = {key: value[slot] for key, value in infos["final_obs"].items()}
                assert_close_observations(final, observation)
                assert info["potential"] == pytest.approx(float(infos["final_info"]["potential"][slot]), abs=1e-5)
                assert info["sbd"] == pytest.approx(float(infos["final_info"]["sbd"][slot]), abs=1e-2)
                observation, _ = env.reset()
            assert_close_observations({key: value[slot] for key, value in observations.items()}, observation)
        assert episodes >= 3


def test_changing_what_was_returned_changes_nothing_later(make_vec, random_actions, info_keys):
    def spoil(value):
        if isinstance(value, dict):
            for part in value.values():
                spoil(part)
        else:
            value.fill_(1)

    def run(change):
        envs, results = make_vec(3), []
        for step, action in enumerate([None, *random_actions(8, 3)]):
            returned = envs.reset(seed=2) if step == 0 else envs.step(action)
            observations, *_, infos = returned
            results.append(
                [observations[key].clone() for key in sorted(observations)]
                + [infos[key].clone() for key in sorted(info_keys)]
            )
            if step:
                results[-1] += [part.clone() for part in returned[1:4]]
            for part in returned if change else ():
                spoil(part)
        return results

    for kept, spoiled in zip(run(change=False), run(change=True), strict=True):
        for a, b in zip(kept, spoiled, strict=True):
            assert torch.equal(a, b)


def test_no_two_calls_return_the_same_memory(make_vec, random_actions):
    envs = make_vec(2)

    def addresses(value):
        if isinstance(value, dict):
            return set().union(*(addresses(part) for part in value.values()))
        return {value.data_ptr()}

    kept = [envs.reset(options={"scene_index": 3})]
    kept += [envs.step(action) for action in random_actions(5, 2)]
    seen = [set().union(*(addresses(part) for part in returned)) for returned in kept]
    assert len(set().union(*seen)) == sum(len(found) for found in seen)
    state = {tensor.data_ptr() for tensor in envs.state.tensors()}
    assert not state & set().union(*seen)


def test_networks_in_training_mode_do_not_tie_the_slots_to_each_other(make_vec, make_networks):
    networks = make_networks()
    networks.context_network.train()
    envs, contexts = make_vec(2, weights=networks), []
    for neighbour in (2, 3):
        envs.reset(options={"scene_index": [1, neighbour]})
        contexts.append(envs.state.context[0])
    torch.testing.assert_close(*contexts)


def test_refined_masks_are_the_autoencoders_of_the_drafts(make_vec, random_actions):
    plain, refining = (make_vec(3, refine=refine, autoreset_mode="Disabled") for refine in (False, True))
    for envs in (plain, refining):
        envs.reset(seed=4)
    action = random_actions(1, 3)[0]
    _, rewards, *_ = refining.step(action)
    plain.step(action)
    state, draft = refining.state, plain.state.predicted_mask
    expected = refining.pretrained.autoencoder.reconstruct(state.context, (draft >= 0.5).float())
    torch.testing.assert_close(state.predicted_mask, expected)
    assert (expected - draft).abs().max() > 0.01
    scores = score(expected[:, 0], state.label_map, state.areas)
    torch.testing.assert_close(rewards, scores.amax(1))


def test_a_snapshot_of_plain_masks_is_no_state_of_refined_ones(make_vec):
    plain, refining = make_vec(2), make_vec(2, refine=True)
    plain.reset(seed=0)
    with pytest.raises(ValueError, match="same decoder, refined or not: its conditioning has tensors"):
        refining.set_state(plain.get_state())


def test_no_slot_at_all_is_refused(make_vec):
    with pytest.raises(ValueError, match="num_envs must be an int from 1 to 1048576, got 0"):
        make_vec(0)


def test_actions_may_carry_a_graph(make_vec, random_actions, recwarn):
    envs = make_vec(2)
    envs.reset(seed=0)
    _, rewards, *_ = envs.step(torch.as_tensor(random_actions(1, 2)[0]).requires_grad_())
    assert not rewards.requires_grad
    assert not recwarn.list


def test_closing_twice_is_no_error_and_a_step_after_it_is(make_vec, make_env):
    for env, action in ((make_vec(3), np.zeros((3, 4), np.float32)), (make_env(), np.zeros(4, np.float32))):
        env.reset(seed=0)
        env.close()
        env.close()
        with pytest.raises(RuntimeError, match=r"call reset\(\)"):
            env.step(action)
        env.reset(seed=0)  # begins anew, and may be closed again
        env.close()
        with pytest.raises(RuntimeError, match=r"call reset\(\)"):
            env.step(action)
    make_vec().close()  # without an episode


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"autoreset_mode": "Sometimes"}, "autoreset_mode must be one of .*'SameStep'.*, got 'Sometimes'"),
        ({"obs": "rgb"}, "obs must be one of .*'coarse'.*, got 'rgb'"),
        ({"obs_dtype": "float64"}, "obs_dtype must be one of .*'float32'.*, got 'float64'"),
        ({"sampler": "sorted"}, "sampler must be one of .*'shuffle'.*, got 'sorted'"),
        ({"stop": "never"}, "stop must be .*, got 'never'"),
        ({"max_steps": 3}, r"arguments: unknown 'max_steps', the nearest are 'max_episode_steps'"),
        ({"observation": "coarse"}, "arguments: unknown 'observation', the nearest are 'obs',"),
        ({"scenes": 3}, "scenes must be a registered name, a folder or a data set .*, got 3, which has no __len__, "),
        ({"scenes": [1, 2]}, "scenes must be .* a data set .*, got list, which has no max_instances"),
        ({"split": "val"}, "split must be left out where scenes is a data set, which has its own, got 'val'"),
        ({"root": "data"}, "root must be left out where scenes is a data set, which has its own, got 'data'"),
        ({"scene_options": {"seed": 1}}, "scene_options must be left out where scenes is a data set, .* got {'seed'"),
        ({"weights": {}}, "weights must be None, a bundled name, a folder or the loaded networks, got {}"),
        ({"num_envs": "two"}, "num_envs must be an int from 1 to .*, got 'two'"),
        ({"num_envs": 10**12}, "num_envs must be an int from 1 to .*, got 1000000000000"),
        ({"num_envs": True}, "num_envs must be an int from 1 to .*, got True"),
        ({"max_episode_steps": 0}, "max_episode_steps must be None or an int from 1 on, got 0"),
        ({"max_episode_steps": 1.5}, "max_episode_steps must be None or an int from 1 on, got 1.5"),
        ({"threshold": "half"}, "threshold must be a number between 0 and 1, got 'half'"),
        ({"action_scale": float("nan")}, "action_scale must be a positive number, got nan"),
        ({"action_scale": None}, "action_scale must be a positive number, got None"),
        ({"matching_noise": "much"}, "matching_noise must be at least 0, got 'much'"),
        ({"sequence_length": -1}, "sequence_length must be None or an int from 1 on, got -1"),
        ({"refine": 2}, "refine must be True or False, got 2"),
        ({"scene_options": [1]}, r"scene_options must be None or a mapping of names to values, got \[1\]"),
        ({"augmentation": {"rotation": "left"}}, "augmentation: a value of another type than expected"),
        ({"augmentation": {"noise": 1}}, "augmentation: unknown 'noise', the nearest are '"),
    ],
)
def test_an_argument_of_the_slots_out_of_range_is_refused_by_name(make_vec, option, message):
    with pytest.raises(ValueError, match=message):
        make_vec(**{"num_envs": 2, **option})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("mode", ["SameStep", "NextStep", "Disabled"])
def test_between_resets_a_step_on_a_gpu_never_makes_the_host_wait(make_vec, pretrained, mode, cuda_graph):
    weights = copy.deepcopy(pretrained)
    envs = make_vec(4, device="cuda", weights=weights, autoreset_mode=mode, cuda_graph=cuda_graph)
    envs.reset(seed=0, options={"scene_index": 3})  # four instances
    actions = torch.zeros(4, 4, device="cuda")
    envs.step(actions)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            envs.step(actions)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_in_bfloat16_episodes_are_those_of_float32_but_for_rounding(make_vec, random_actions):
    exact, coarse = make_vec(3), make_vec(3, precision="bfloat16")
    for envs in (exact, coarse):
        envs.reset(seed=0, options={"scene_index": 3})
    for action in random_actions(3, 3):
        _, expected, *_ = exact.step(action)
        _, rewards, *_ = coarse.step(action)
        torch.testing.assert_close(rewards, expected, atol=0.05, rtol=0)
    assert {share.dtype for share in tree.tensors(coarse.state.conditioning)} == {torch.bfloat16}
    assert coarse.state.accumulated_mask.dtype == rewards.dtype == torch.float32
    assert not torch.equal(coarse.state.accumulated_mask, exact.state.accumulated_mask)
    with pytest.raises(ValueError, match=r"precision must be one of \('float32', 'bfloat16'\), got 'half'"):
        make_vec(3, precision="half")


def test_a_compiled_environment_decodes_by_the_compiled_decoder(make_vec, random_actions, monkeypatch):
    compiled = []

    def compile_module(module):
        compiled.append(module)
        return lambda *inputs: module(*inputs) / 2

    monkeypatch.setattr(torch, "compile", compile_module)
    plain, envs = make_vec(2), make_vec(2, compile=True)
    assert compiled == [envs.decoder]
    for each in (plain, envs):
        each.reset(seed=0, options={"scene_index": 3})
        each.step(random_actions(1, 2)[0])
    assert torch.equal(envs.state.predicted_mask, plain.state.predicted_mask / 2)


def test_the_potential_goes_on_from_the_best_assignment_after_a_greedy_stretch(make_vec, random_actions):
    envs = make_vec(1, reward="greedy")
    for seed in range(20):  # until the greedy assignment is not the best one
        envs.reset(seed=0, options={"scene_index": 3})
        first, second, third = random_actions(3, seed=seed)
        envs.step(first)
        envs.step(second)
        state = envs.state
        if not torch.equal(state.assignment, from_scratch(state.scores, state.step_count, state.num_instances)[0]):
            break
    envs.set_attr("reward", "potential")
    state = envs.state
    best, _ = from_scratch(state.scores, state.step_count, state.num_instances)
    assert torch.equal(state.assignment, best)
    envs.step(third)
    state = envs.state
    assert torch.equal(state.potential, from_scratch(state.scores, state.step_count, state.num_instances)[1])
