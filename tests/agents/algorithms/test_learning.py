"""Every kind of training can learn a few plants by heart, from weights that come with the package."""

from dataclasses import replace

import pytest

from acis_env import SegmentationVectorEnv
from acis_env.datasets import Leaves
from agents.algorithms import ActorCriticConfig, BaselineConfig, CandidateActorCriticConfig, LearnerConfig
from agents.evaluation import agent_segmenter, evaluate, reconstruction_segmenter
from agents.models.agent import Agent
from agents.training.config import Stage, TrainConfig
from agents.training.presets import COMPACT_ACTOR, CROSS_ENTROPY
from agents.training.trainer import Trainer

CONFIG = TrainConfig(
    learner=LearnerConfig(COMPACT_ACTOR), batch_size=3, eval_every=1000, monitor_every=1000, checkpoint_every=1000
)
INITIALISATION = Stage("init", BaselineConfig(learning_rate=1e-3), 20, sequence_length=1)
ACTOR_CRITIC = ActorCriticConfig(learning_rate=1e-3, critic_updates=2, critic_batch_size=32, critic_warmup=20)


@pytest.mark.parametrize(
    "stages",
    [
        pytest.param((Stage("main", replace(CROSS_ENTROPY, learning_rate=5e-4), 50),), id="bl-trunc"),
        pytest.param((Stage("main", BaselineConfig(learning_rate=1e-3), 40),), id="bl-trunc-dice"),
        pytest.param((INITIALISATION, Stage("main", ACTOR_CRITIC, 80)), id="ac-dice"),
        pytest.param((Stage("main", CandidateActorCriticConfig(learning_rate=1e-3), 40),), id="candidates"),
    ],
)
def test_training_on_three_plants_finds_their_leaves_nearly_as_well_as_the_decoder_can(make_scenes, tmp_path, stages):
    plants = make_scenes(Leaves("train", (64, 64), min_leaves=2, max_leaves=3, length=3))
    assert [plant.num_instances for plant in plants] == [3, 3, 2]
    options = {"scenes": plants, "weights": "leaves-64", "autoreset_mode": "Disabled"}
    env, val_env = (SegmentationVectorEnv(n, sampler="shuffle", **options) for n in (3, 1))
    trainer = Trainer(replace(CONFIG, stages=stages), tmp_path, env, val_env)

    def measure(segmenter):
        return evaluate("any", segmenter, val_env.source).mean["dice_star"]

    bound = measure(reconstruction_segmenter(trainer.learner.pretrained))
    agent = trainer.run()
    # The last stage alone has to do it: actor-critic training by the critic's gradient.
    before, after = (measure(agent_segmenter(a)) / bound for a in (Agent.load(tmp_path / "initial.pt"), agent))
    assert bound > 0.95
    assert before < 0.75
    assert after >= 0.9
