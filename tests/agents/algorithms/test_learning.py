"""Every kind of training can learn a few plants by heart, from weights that come with the package."""

from dataclasses import replace

import pytest

from acis_env.augment import NO_AUGMENTATION
from acis_env.datasets import Leaves
from agents.evaluation.evaluation import agent_segmenter, evaluate, reconstruction_segmenter
from agents.models.agent import Agent
from agents.training.config import SMALL_ACTOR, Phase, TrainConfig
from agents.training.trainer import Trainer

CONFIG = TrainConfig(
    batch_size=8,
    actor=SMALL_ACTOR,
    augmentation=NO_AUGMENTATION,
    critic_updates=2,
    critic_batch_size=32,
    eval_every=1000,
    monitor_every=1000,
    checkpoint_every=1000,
)
INITIALISATION = (Phase("init", "bl-score", 20, 1e-3, sequence_length=1), Phase("warm-up", "critic", 30))


@pytest.mark.parametrize(
    "phases",
    [
        pytest.param((Phase("main", "bl-bce", 50, 5e-4),), id="bl-bce"),
        pytest.param((Phase("main", "bl-score", 40, 1e-3),), id="bl-score"),
        pytest.param((*INITIALISATION, Phase("main", "ac", 100, 5e-4, kl_weight=1e-3)), id="ac"),
    ],
)
def test_training_on_four_plants_finds_their_leaves_nearly_as_well_as_the_decoder_can(make_scenes, tmp_path, phases):
    plants = make_scenes(Leaves("train", (64, 64), min_leaves=2, max_leaves=4, length=4))
    assert [plant.num_instances for plant in plants] == [4, 4, 2, 4]
    trainer = Trainer(replace(CONFIG, phases=phases), tmp_path, train=plants, val=plants)

    def measure(segmenter):
        return evaluate("any", segmenter, trainer.val_scenes).mean["dice_star"]

    bound = measure(reconstruction_segmenter(trainer.pretrained))
    agent = trainer.run()
    # The last phase alone has to do it: actor-critic training by the critic's gradient.
    before, after = (measure(agent_segmenter(a)) / bound for a in (Agent.load(tmp_path / "initial.pt"), agent))
    assert bound > 0.95
    assert before < 0.75
    assert after >= 0.9
