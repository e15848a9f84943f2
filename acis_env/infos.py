"""What infos hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from acis_env.dynamics import label_prediction
from acis_env.metrics import batch_metrics
from acis_env.slots import Slots


def episode_info(slots: Slots) -> dict[str, Tensor]:
    """How the episode of every slot stands, `[num_envs, ...]`, in memory of its own."""
    state = slots.begun()
    return {
        "potential": state.potential.clone(),
        "num_instances": state.num_instances.clone(),
        "step_count": state.step_count.clone(),
        "assignment": state.assignment.clone(),
        "scene_index": slots.scene_index.clone(),
        "augmentation": slots.augmentation.clone(),
    }


def final_metrics(slots: Slots, chosen: Sequence[int], threshold: float) -> dict[str, Tensor]:
    """Metrics `[num_envs]` of the label maps of the slots `chosen`, zero elsewhere; nothing if there are none."""
    if not chosen:
        return {}
    index, state = slots.index(chosen), slots.begun()
    predictions = label_prediction(state, threshold, index)
    metrics = batch_metrics(predictions, state.label_map[index], *state.scores.shape[1:])
    is_success = (metrics["avg_fp"] == 0) & (metrics["avg_fn"] == 0) & (metrics["dic"] == 0)
    found = {**metrics, "is_success": is_success}
    return {key: value.new_zeros(len(slots)).index_copy_(0, index, value) for key, value in found.items()}


def with_masks(info: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """Add Gymnasium's `_key` for every key: the slots in which it holds."""
    return {**info, **{f"_{key}": mask.clone() for key in info}}
