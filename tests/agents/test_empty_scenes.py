"""Scenes without instances where agents learn and are measured."""

from dataclasses import replace

import numpy as np
import pytest

from acis_env import SegmentationVectorEnv
from acis_env.datasets import PackedScenes, Scene
from acis_env.episode_source import EpisodeSource
from agents.evaluation import agent_segmenter, compare, format_table, write_report
from agents.evaluation.segmenters import search_bounds
from agents.training.presets import PRESETS
from agents.training.trainer import Trainer


class Listed(list):
    """A list of scenes, which is a data set."""

    max_instances = 2


def scene(count):
    label_map = np.zeros((32, 32), np.int32)
    label_map[2:14, 4:28], label_map[18:30, 4:28] = count > 0, 2 * (count > 1)
    image = (60 * label_map + np.array([30, 50, 70])[:, None, None]).astype(np.uint8)
    return Scene(image, label_map, f"with {count}")


@pytest.fixture(params=[[2, 0, 0], [0, 0]], ids=str)
def data(request):
    return Listed(scene(count) for count in request.param)


def test_evaluation_measures_empty_scenes_by_the_definitions_of_the_measures(agent, data, tmp_path):
    source = EpisodeSource(agent.pretrained.context_network, agent.decoder, PackedScenes(data, (32, 32)))
    bounds = search_bounds(agent, SegmentationVectorEnv(scenes=data, weights=agent.pretrained).rules)
    rows = compare({"agent": agent_segmenter(agent), **bounds}, agent.pretrained, source)
    for row in rows:
        empty = row.scenes[-1]
        assert empty["sbd"] == empty["sbd_gt_stop"] == empty["dice_star"] == empty["fbd"] == 0
        assert empty["dic"] == empty["avg_fp"] >= 0
        assert row.dice_per_step[-1] == []
    assert rows[-1].scenes[-1]["dic"] == 0
    assert format_table(rows)
    write_report(tmp_path, rows, source, {})


@pytest.mark.parametrize("preset", ["bl-trunc", "ac-dice", "value-expansion", "best"])
def test_every_algorithm_trains_where_some_or_all_scenes_of_a_batch_are_empty(preset, data, agent, tmp_path):
    options = {"scenes": data, "weights": agent.pretrained, "autoreset_mode": "Disabled"}
    stages = tuple(replace(stage, iterations=2) for stage in PRESETS[preset].stages)
    config = replace(PRESETS[preset], stages=stages, batch_size=2, eval_scenes=2)
    trainer = Trainer(config, tmp_path, *(SegmentationVectorEnv(n, **options) for n in (2, 1)))
    trainer.run()
    assert all(np.isfinite(value) for value in trainer.history[-1].values())
