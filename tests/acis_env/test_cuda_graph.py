"""Steps that are recorded once and replayed: the same episodes as without, in memory of their own.

Without a GPU, what would be a CUDA graph is imitated: a replay computes again and writes to the recorded outputs.
"""

import copy
import gc
import pickle
import weakref

import pytest
import torch

from acis_env import check_vector_env, tree
from acis_env.cuda_graph import CudaGraph

MODES = ("SameStep", "NextStep", "Disabled")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def recordings(monkeypatch):
    """Imitates recording on a CPU; the inputs of each one."""
    made = []

    def record(_, function, inputs):
        made.append(inputs)

        def compute():
            return function(*tree.map_tensors(lambda x: x, inputs))  # without what a CPU keeps of label maps

        def replay():
            for place, value in zip(tree.tensors(outputs), tree.tensors(compute()), strict=True):
                place.copy_(value)

        outputs = compute()
        return replay, outputs

    monkeypatch.setattr(CudaGraph, "_record", record)
    for module in ("vector_env", "attributes"):
        monkeypatch.setattr(f"acis_env.{module}.check_recordable", lambda *_: None)
    return made


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=needs_gpu)])
def device(request):
    """Where steps are recorded: by imitation on a CPU, in truth on a GPU."""
    if request.param == "cpu":
        request.getfixturevalue("recordings")
    return request.param


@pytest.fixture
def make_pair(make_vec, pretrained, device):
    """A function that opens the scenes twice: as always, and with recorded steps."""

    def make(num_envs=3, **options):
        weights = copy.deepcopy(pretrained) if device == "cuda" else pretrained
        options = {"device": device, "weights": weights, **options}
        return make_vec(num_envs, **options), make_vec(num_envs, cuda_graph=True, **options)

    return make


@pytest.mark.parametrize(
    "options",
    [
        *({"autoreset_mode": mode} for mode in MODES),
        *(
            {"autoreset_mode": mode, "stop": "agent", "count_penalty": 0.1, "max_episode_steps": 3}
            for mode in MODES[:2]
        ),
        {"score": "iou", "reward": "greedy"},
        {"reward": "sbd"},
        {"matching_noise": 0.5, "sequence_length": 2},
        {"refine": True, "obs": "stacked"},
        {"precision": "bfloat16"},
    ],
    ids=str,
)
def test_recorded_steps_are_those_of_an_environment_without(make_pair, random_actions, assert_same, options):
    plain, graph = make_pair(**options)
    assert_same(graph.reset(seed=0), plain.reset(seed=0))
    for step, action in enumerate(random_actions(12, 3, length=plain.single_action_space.shape[0])):
        assert_same(graph.step(action), plain.step(action))
        if plain.autoreset_mode.value == "Disabled" and (over := plain.is_over).any():
            assert_same(*(envs.reset(options={"reset_mask": over}) for envs in (graph, plain)))
        if step == 6:
            assert_same(*(envs.reset(options={"scene_index": 3}) for envs in (graph, plain)))
    assert_same(tree.tensors(graph.state), tree.tensors(plain.state))


def test_an_environment_with_recorded_steps_keeps_its_promises(make_vec, recordings):
    check_vector_env(make_vec(2, cuda_graph=True))  # bit by bit, as GPUs add up only in deterministic mode


def test_nothing_that_a_step_gave_changes_in_later_ones(make_pair, random_actions, assert_same):
    _, graph = make_pair(autoreset_mode="Disabled")
    first = graph.reset(seed=0, options={"scene_index": 3})
    before = graph.state
    given = [first, graph.step(random_actions(1, 3)[0]), (before, graph.state)]
    copies = tree.map_tensors(torch.clone, given)
    for action in random_actions(2, 3, seed=1):
        graph.step(action)
    assert_same(tree.tensors(given), tree.tensors(copies))
    assert graph.state.context is before.context  # what no step changes is not copied


def test_a_changed_rule_holds_from_the_next_step_on(make_pair, random_actions, assert_same):
    plain, graph = make_pair()
    for number, score in enumerate(("dice", "iou", "dice")):
        for envs in (plain, graph):
            envs.set_attr("score", score)
            envs.reset(seed=number, options={"scene_index": 3})
        for action in random_actions(2, 3, seed=number):
            assert_same(graph.step(action), plain.step(action))


def test_it_records_once_for_shapes_and_settings(recordings):
    graph, x = CudaGraph(), torch.arange(3.0)

    def add(x, y):
        return x if y is None else x + y, x

    for y in (None, torch.ones(3), None, torch.ones(3), torch.ones(2, 3)):
        total, same = graph(add, "settings", x, y)
        assert torch.equal(total, x if y is None else x + y)
        assert same is x
    assert len(recordings) == 3
    graph(add, "others", x, None)
    graph(add, "settings", x, None)
    assert len(recordings) == 5


def test_it_passes_the_callers_memory_through_and_copies_everything_else(recordings):
    graph, first, second = CudaGraph(), torch.ones(2), torch.full((2,), 3.0)

    def double(x):
        return x, 2 * x

    _, two = graph(double, None, first)
    same, six = graph(double, None, second)
    assert same is second
    assert two.tolist() == [2, 2]
    assert six.tolist() == [6, 6]


def test_networks_that_are_shared_later_stay_in_the_memory_that_a_graph_reads(make_vec, pretrained):
    weights = copy.deepcopy(pretrained)
    envs = make_vec(2, weights=weights)
    tensors = list(weights.autoencoder.decoder.buffers()) + list(weights.autoencoder.decoder.parameters())
    before = [(tensor.data_ptr(), tensor.clone()) for tensor in tensors]
    make_vec(2, weights=weights)
    pickle.loads(pickle.dumps(envs))
    copy.copy(envs)
    weights.autoencoder.decoder.freeze()  # as agents that are made of the same networks
    weights.autoencoder.load_state_dict(weights.autoencoder.state_dict())
    after = list(weights.autoencoder.decoder.buffers()) + list(weights.autoencoder.decoder.parameters())
    assert [tensor.data_ptr() for tensor in after] == [address for address, _ in before]
    assert all(torch.equal(tensor, values) for tensor, (_, values) in zip(after, before, strict=True))


def test_networks_that_were_frozen_in_inference_mode_can_be_shared_too(make_vec, pretrained):
    weights = copy.deepcopy(pretrained)
    with torch.inference_mode():
        for conv in weights.autoencoder.decoder.convs:
            conv.folded = None
            conv.freeze()
    for _ in range(2):
        make_vec(2, weights=weights).reset(seed=0)
    assert not any(conv.folded.is_inference() for conv in weights.autoencoder.decoder.convs)


def test_an_environment_that_nobody_holds_is_gone_at_once(make_vec, recordings, monkeypatch, random_actions):
    # As a real recording, it does not keep the function.
    monkeypatch.setattr(CudaGraph, "_record", lambda _, function, inputs: (lambda: None, function(*inputs)))
    envs = make_vec(2, cuda_graph=True)
    envs.reset(seed=0)
    envs.step(random_actions(1, 2)[0])
    gone = weakref.ref(envs)
    gc.disable()
    try:
        del envs
        assert gone() is None
    finally:
        gc.enable()


def test_a_closed_environment_keeps_no_recording_and_records_again(make_vec, recordings, random_actions):
    envs = make_vec(2, cuda_graph=True)
    for number in (1, 2):
        envs.reset(seed=0)
        envs.step(random_actions(1, 2)[0])
        assert len(recordings) == number
        envs.close()
        assert not envs._graph._recordings


class Stripes:
    """A decoder of one's own."""

    size, latent_size = (16, 16), 2

    def condition(self, context):
        return context[:, :1]

    def __call__(self, latent, conditioning):
        return conditioning


def overlap(masks, label_maps, areas):
    """A score of one's own."""
    return torch.zeros_like(areas)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "cuda_graph=True needs device=\"cuda\", got 'cpu'"),
        ({"device": "cuda", "decoder": Stripes()}, "cuda_graph=True cannot go with a decoder of one's own"),
        ({"device": "cuda", "score": overlap}, "cuda_graph=True cannot go with a score of one's own"),
    ],
)
def test_what_cannot_be_recorded_is_refused(make_vec, monkeypatch, options, message):
    monkeypatch.setattr("acis_env.arguments.check_device", lambda device: None)  # as if there were one
    with pytest.raises(ValueError, match=message):
        make_vec(cuda_graph=True, **options)


def test_a_score_of_ones_own_is_refused_later_too(make_vec):
    envs = make_vec(2)
    envs.arguments |= {"device": "cuda", "cuda_graph": True}
    with pytest.raises(ValueError, match="cannot go with a score of one's own"):
        envs.set_attr("score", overlap)
    assert envs.get_attr("score") == ("dice", "dice")
