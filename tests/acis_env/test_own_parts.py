"""Decoders and context predictors of one's own, without any weights."""

import copy
import pickle
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from acis_env import SegmentationVectorEnv, dynamics, tree
from acis_env.context import oracle_context
from acis_env.datasets import PackedScenes
from acis_env.dynamics import Rules
from acis_env.episode_source import EpisodeSource
from acis_env.refinement import RefiningDecoder

SIZE = (32, 32)


@tree.register
@dataclass(frozen=True)
class Kept:
    brightness: torch.Tensor  # [B, 1, 1, 1]


class Names(NamedTuple):
    brightness: torch.Tensor


TREES = {
    "tensor": lambda x: x,
    "tuple": lambda x: (x, (x + 1,)),
    "dict": lambda x: {"brightness": x, "more": [x + 1]},
    "named tuple": Names,
    "dataclass": Kept,
    "nothing": lambda x: (),
}


class Stripes:
    """Masks that are horizontal stripes; keeps the mean brightness of each image in a tree of one kind."""

    size = SIZE
    latent_size = 2

    def __init__(self, kind="tensor"):
        self.kind = kind

    def condition(self, context):
        return TREES[self.kind](context[:, :3].mean((1, 2, 3), keepdim=True))

    def __call__(self, latent, conditioning):
        rows = torch.linspace(-3, 3, SIZE[0], device=latent.device).view(1, 1, -1, 1)
        found = tree.tensors(conditioning)
        brightness = found[0] if found else 0.5
        top, bottom = latent[:, :1, None, None], latent[:, 1:, None, None]
        masks = torch.sigmoid(4 * (rows - top)) * torch.sigmoid(4 * (bottom - rows)) * (0.5 + 0.5 * brightness)
        return masks.expand(-1, -1, -1, SIZE[1])


class Grey:
    """A context predictor that takes what is bright for foreground."""

    size = SIZE

    def context(self, images):
        image = images.float() / 255
        return torch.cat([image, image.mean(1, keepdim=True), torch.zeros_like(image[:, :1]).repeat(1, 8, 1, 1)], 1)


@pytest.fixture
def make(scenes):
    def make(num_envs=3, **options):
        options = {"scenes": scenes, "decoder": Stripes(), "context": Grey(), **options}
        return SegmentationVectorEnv(num_envs, **options)

    return make


@pytest.mark.parametrize("kind", TREES)
def test_the_conditioning_may_be_any_tree(make, random_actions, assert_same, kind):
    envs, plain = make(decoder=Stripes(kind), obs="stacked"), make(decoder=Stripes("tensor"), obs="stacked")
    assert envs.pretrained is None
    results = [[e.reset(seed=0)] + [e.step(a) for a in random_actions(6, 3, length=2)] for e in (envs, plain)]
    if kind != "nothing":
        assert_same(*results)
    snapshot = envs.get_state()
    onwards = [envs.step(action) for action in random_actions(4, 3, seed=1, length=2)]
    envs.set_state(snapshot)
    assert_same([envs.step(action) for action in random_actions(4, 3, seed=1, length=2)], onwards)


def test_masks_context_and_rewards_are_those_of_the_parts(make, scenes):
    envs = make(5)
    envs.reset(options={"scene_index": [0, 1, 2, 3, 4]})
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    decoder, context = Stripes(), Grey().context(images)
    assert torch.equal(envs.state.context, context)
    actions = torch.tensor([[-0.5, 0.5]]).repeat(5, 1)
    label_map = torch.from_numpy(np.stack([scene.label_map for scene in scenes])).long()
    state = dynamics.reset(context, label_map, decoder, 4, 4)
    after, expected = dynamics.step(state, actions * 3.0, decoder)
    _, rewards, *_ = envs.step(actions)
    assert torch.equal(rewards, expected)
    assert (rewards > 0).all()
    assert envs.single_action_space.shape == (2,)
    assert torch.equal(after.predicted_mask, decoder(actions * 3.0, decoder.condition(context)))


def test_the_oracle_needs_no_predictor(make, scenes):
    envs = make(1, context="oracle")
    envs.reset(options={"scene_index": 3})
    label_map = torch.from_numpy(scenes[3].label_map).long()[None]
    assert torch.equal(envs.state.context, oracle_context(torch.from_numpy(scenes[3].image)[None], label_map, 4))


def test_weights_give_what_is_not_ones_own(make, make_vec, pretrained):
    own_decoder = make_vec(2, decoder=Stripes())
    assert isinstance(own_decoder.decoder, Stripes)
    assert own_decoder.source.context is pretrained.context_network
    own_context = make_vec(2, context=Grey())
    assert own_context.decoder is pretrained.autoencoder.decoder
    assert isinstance(own_context.source.context, Grey)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": None}, "weights must be given for want of a decoder"),
        ({"context": "predicted"}, "weights must be given for want of a context"),
        ({"context": 3}, "context must be .* ContextPredictor.*, got 3"),
        ({"context": SimpleNamespace(context=abs)}, "the method context and the attribute size .*, got namespace"),
        ({"refine": True}, r"refine=True .*decoder=RefiningDecoder\(encoder, decoder\)"),
    ],
)
def test_parts_that_are_missing_or_do_not_fit_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_parts_of_different_sizes_are_refused(make, make_vec, make_networks):
    decoder = Stripes()
    decoder.size = (64, 32)
    with pytest.raises(ValueError, match=r"context and decoder must be of one size, got \(32, 32\) and \(64, 32\)"):
        make(decoder=decoder)
    with pytest.raises(ValueError, match="context and decoder must be of one size"):
        make_vec(decoder=decoder)
    decoder.size = [32, 32]
    make(decoder=decoder).reset(seed=0)
    decoder.size = (30, 32)
    with pytest.raises(ValueError, match=r"decoder.size must be .* multiples of 32"):
        make(decoder=decoder, context="oracle")


def broken(method, value):
    part = Grey() if method == "context" else Stripes()
    if method == "decode":

        class Decoder(Stripes):
            def __call__(self, latent, conditioning):
                return value(latent)

        return {"decoder": Decoder()}
    setattr(part, method, value)
    return {"decoder" if method == "condition" else "context": part}


@dataclass
class Unregistered:
    x: torch.Tensor


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (broken("decode", lambda z: z.new_zeros(len(z), 32, 32)), r"decoder must return \[B, 1, H, W\] = \[3, 1, 32"),
        (broken("condition", lambda c: (c, 2)), "decoder.condition must give tensors.*, got int"),
        (broken("condition", lambda c: Unregistered(c)), "got Unregistered; a dataclass needs .*tree.register"),
        (broken("condition", lambda c: c[:1]), r"B = 3, got \[1, 12"),
        (broken("condition", lambda c: torch.zeros(1, 4).expand(3, 4)), r"memory of their own.*call clone\(\)"),
        (broken("context", lambda x: x.float()), r"context must return \[B, 12, H, W\] = .*, got \[\d, 3, 32, 32\]"),
    ],
)
def test_what_a_part_returns_is_checked(make, random_actions, options, message):
    envs = make(**options)

    def play():
        envs.reset()
        envs.step(random_actions(1, 3, length=2)[0])

    with pytest.raises(ValueError, match=message):
        play()


def test_a_refining_decoder_is_a_decoder_like_any_other(make_vec, pretrained, random_actions, assert_same):
    refining = RefiningDecoder(pretrained.autoencoder.encoder, pretrained.autoencoder.decoder)
    passed, chosen = make_vec(2, decoder=refining), make_vec(2, refine=True)
    results = [[envs.reset(seed=0)] + [envs.step(a) for a in random_actions(4, 2)] for envs in (passed, chosen)]
    assert_same(*results)
    conditioning = passed.state.conditioning
    assert set(vars(conditioning)) == {"encoder", "decoder"}


def test_refining_twice_is_refused(pretrained):
    encoder = pretrained.autoencoder.encoder
    with pytest.raises(ValueError, match="refining twice"):
        RefiningDecoder(encoder, RefiningDecoder(encoder, pretrained.autoencoder.decoder))
    with pytest.raises(ValueError, match=r"agree in size and latent_size, got \(\(32, 32\), 4\) and \(\(32, 32\), 2\)"):
        RefiningDecoder(encoder, Stripes())


def test_an_environment_of_own_parts_can_be_pickled_and_goes_on(make, random_actions, assert_same):
    envs = make(2)
    envs.reset(seed=0)
    again = pickle.loads(pickle.dumps(envs))
    for action in random_actions(4, 2, length=2):
        assert_same(again.step(action), envs.step(action))


def test_own_parts_pass_through_gymnasium(scenes):
    envs = gym.make_vec("ACIS/Scenes-v0", num_envs=2, scenes=scenes, decoder=Stripes(), context="oracle")
    assert envs.action_space.shape == (2, 2)
    envs.reset(seed=0)


def test_a_module_is_put_in_evaluation_mode_and_left_on_its_device(make):
    class Module(nn.Module, Stripes):
        def __init__(self):
            nn.Module.__init__(self)
            self.kind, self.dropout = "tensor", nn.Dropout()

        def forward(self, latent, conditioning):
            return self.dropout(Stripes.__call__(self, latent, conditioning))

        __call__ = nn.Module.__call__

    decoder = Module()
    envs = make(decoder=decoder)
    assert envs.decoder is decoder
    assert not decoder.training


def test_the_slots_that_are_over_are_known_and_cannot_be_written(make, random_actions):
    envs = make(2, autoreset_mode="Disabled")
    assert envs.is_over.tolist() == [True, True]
    envs.reset(options={"scene_index": [2, 0]})
    assert envs.is_over.tolist() == [False, False]
    envs.step(random_actions(1, 2, length=2)[0])
    over = envs.is_over
    assert over.tolist() == [True, False]
    over[:] = False
    assert envs.is_over.tolist() == [True, False]


# The source, without an environment


def test_a_source_begins_scenes_without_generators_where_nothing_is_random(scenes):
    packed = PackedScenes(scenes, SIZE)
    source = EpisodeSource(Grey(), Stripes(), packed)
    state, batch = source.begin([3, 0])
    assert state.scores.shape == (2, 4, 4)
    assert batch.indices.tolist() == [3, 0]
    assert state.num_instances.tolist() == [4, 2]
    assert source.device == torch.device("cpu")
    for rules in (Rules(sequence_length=1), Rules(matching_noise=0.1)):
        with pytest.raises(ValueError, match=r"generators must be one per scene, 2, .* got 0"):
            source.begin([3, 0], rules=rules)


def test_images_without_labels_are_segmented_by_transitions_alone(scenes):
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    decoder = Stripes()
    with_labels = EpisodeSource(Grey(), decoder, PackedScenes(scenes, SIZE)).begin(range(5))[0]
    state = EpisodeSource(Grey(), decoder).begin_images(images, max_steps=4)
    assert not state.label_map.any()
    assert not state.num_instances.any()
    for latent in 3 * torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(0)):
        state = dynamics.transition(state, latent, decoder)
        with_labels, _ = dynamics.step(with_labels, latent, decoder)
        for name in ("accumulated_mask", "predicted_mask", "owner", "step_count"):
            assert torch.equal(getattr(state, name), getattr(with_labels, name)), name
    assert dynamics.is_cut(state).all()


def test_a_transition_is_differentiable_and_passes_no_gradient_around_the_maximum(scenes):
    decoder = Stripes()
    state = EpisodeSource("oracle", decoder, PackedScenes(scenes, SIZE)).begin([0])[0]
    latent = torch.tensor([[-1.0, 1.0]], dtype=torch.float64, requires_grad=True)

    def area(latent):
        return dynamics.transition(state, latent, decoder).accumulated_mask.sum()

    assert torch.autograd.gradcheck(area, latent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.float(), r"images must be uint8 \['B', 3, 32, 32\], got torch.float32"),
        (lambda x: x[0], r"got torch.uint8 \[3, 32, 32\]"),
        (lambda x: x[:, :, :16], r"got torch.uint8 \[2, 3, 16, 32\]"),
    ],
)
def test_images_of_another_shape_or_dtype_are_refused(change, message):
    source = EpisodeSource(Grey(), Stripes())
    with pytest.raises(ValueError, match=message):
        source.begin_images(change(torch.zeros(2, 3, *SIZE, dtype=torch.uint8)), 3)


def test_what_a_source_lacks_is_named():
    with pytest.raises(ValueError, match="no scenes"):
        EpisodeSource(Grey(), Stripes()).begin([0])
    with pytest.raises(ValueError, match=r"oracle.* is made from labels"):
        EpisodeSource("oracle", Stripes()).begin_images(torch.zeros(2, 3, *SIZE, dtype=torch.uint8), 3)
    with pytest.raises(ValueError, match=r"context must be \"oracle\" or .*, got 'predicted'"):
        EpisodeSource("predicted", Stripes())


def test_copies_of_a_state_share_nothing_with_it(scenes):
    state = EpisodeSource(Grey(), Stripes("dict"), PackedScenes(scenes, SIZE)).begin([0, 1])[0]
    again = copy.deepcopy(state)
    for mine, theirs in zip(again.tensors(), state.tensors(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()


class Changed:
    """A part of an environment, what it returns changed by a function."""

    def __init__(self, part, change):
        self.part, self.change = part, change

    def __getattr__(self, name):
        return getattr(self.part, name)

    def __call__(self, latent, conditioning):
        return self.change(self.part(latent, conditioning))

    def context(self, images):
        return self.change(self.part.context(images))


WRONG = {
    "logits": (lambda x: 20 * x - 10, r"values in \[0, 1\], got -10 to "),
    "bytes": (lambda x: 255 * x, r"values in \[0, 1\], got .* to [12]\d\d;"),
    "below zero": (lambda x: x - 0.5, r"values in \[0, 1\], got -0.5"),
    "not a number": (lambda x: x * torch.nan, r"values in \[0, 1\], got nan to nan"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_part_that_returns_no_probabilities_is_named(make, random_actions, kind):
    change, message = WRONG[kind]
    with pytest.raises(ValueError, match=f"context must return {message}"):
        make(context=Changed(Grey(), change)).reset()
    envs = make(decoder=Changed(Stripes(), change))
    envs.reset(seed=0)
    before = envs.get_state()
    with pytest.raises(ValueError, match=f"decoder must return {message}"):
        envs.step(random_actions(1, 3, length=2)[0])
    assert torch.equal(envs.state.step_count, before.state.step_count)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_masks_on_a_gpu_are_looked_at_by_the_next_reset(make, random_actions):
    envs = make(decoder=Changed(Stripes(), WRONG["logits"][0]), device="cuda", autoreset_mode="Disabled")
    envs.reset(seed=0)
    envs.step(random_actions(1, 3, length=2)[0])
    with pytest.raises(ValueError, match="decoder must return values in"):
        envs.reset()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.bool])
def test_parts_may_return_numbers_of_any_kind(make, random_actions, dtype):
    decoder, context = Changed(Stripes(), lambda x: (x > 0.5).to(dtype)), Changed(Grey(), lambda x: (x > 0.5).to(dtype))
    envs = make(decoder=decoder, context=context, obs="stacked", obs_dtype="float32")
    same = make(
        decoder=Changed(Stripes(), lambda x: (x > 0.5).float()),
        context=Changed(Grey(), lambda x: (x > 0.5).float()),
        obs="stacked",
        obs_dtype="float32",
    )
    for each in (envs, same):
        each.reset(seed=0)
    (found, rewards, *_), (expected, others, *_) = (
        each.step(random_actions(1, 3, length=2)[0]) for each in (envs, same)
    )
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(rewards, others)


@pytest.mark.parametrize("obs_dtype", ["uint8", "float32"])
def test_rounding_may_leave_the_unit_interval_by_a_little_and_is_cut(make, random_actions, obs_dtype):
    options = {"obs_dtype": obs_dtype, "render_mode": "rgb_array"}
    decoder = Changed(Stripes(), lambda x: (x > 0.5) * 1.009)
    context = Changed(Grey(), lambda x: (x > 0.5) * 1.018 - 0.009)
    envs = make(decoder=decoder, context=context, **options)
    decoder, context = Changed(Stripes(), lambda x: (x > 0.5).float()), Changed(Grey(), lambda x: (x > 0.5).float())
    same = make(decoder=decoder, context=context, **options)
    for each in (envs, same):
        each.reset(seed=0)
    actions = random_actions(1, 3, length=2)[0]
    (found, rewards, *_), (expected, others, *_) = (each.step(actions) for each in (envs, same))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(rewards, others)
    assert all(np.array_equal(a, b) for a, b in zip(envs.render(), same.render(), strict=True))
