"""One-to-one assignment of predictions to instances, from scratch or by one augmenting path per step.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, Eqs. (2), (4) and (5).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from acis_env.precision import widest_float

ARC_COST = 1e-10
"""Added to each move of a path, in float64. Of paths that are equally good it makes the shortest the best, so that no
cycle costs nothing; it is far above the rounding of the sums and far below the float32 resolution of the potential."""


def match(
    scores: Tensor, steps: Tensor, num_instances: Tensor, assignment: Tensor, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Assignment and potential after the newest prediction of every scene; arguments and results of `extend`.

    On the CPU this is `from_scratch`: SciPy's compiled code takes a scene some ten microseconds, less than a hundred
    small tensor operations take, even shared by a batch. On other devices it is `extend`, which never waits for them,
    unless they lack the float64 that its paths are found in.
    """
    if scores.device.type == "cpu" or widest_float(scores.device) is not torch.float64:
        return from_scratch(scores, steps, num_instances, noise)
    return extend(scores, steps, num_instances, assignment, noise)


def extend(
    scores: Tensor, steps: Tensor, num_instances: Tensor, assignment: Tensor, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Best assignment with one more prediction per scene, from the best one without it: the potential of
    `from_scratch` at the cost of one shortest path, the same at every step, on the device of `scores`.

    A path starts at the newest prediction, which takes an instance; whoever held it takes another, and so on. It ends
    at a free instance; where there is none, the last one on it is dropped, or the newest is left without an instance.
    A prediction once dropped never comes back. The best path is found by Bellman-Ford relaxations, always as many as
    the longest path can need: no duals to keep between steps, and no choice on the host.

    Args:
        scores: `[B, T, N]`, padded; the newest prediction of scene `b` is row `steps[b] - 1`.
        steps: `[B]` int64, predictions so far including the newest, at most `T`; 0 where there is none yet.
        num_instances: `[B]` int64, at most `N`.
        assignment: `[B, T]` int64, the best one before the newest prediction, -1 where a prediction has no instance.
        noise: `[B, T, N]`, added to the scores for the choice of the assignment only, Eq. (2); the same at each step.

    Returns:
        Assignment `[B, T]` int64 of as many predictions as there are, or as there are instances, also where the
        scores are zero; and potential `[B]`, `phi_t` of Eq. (4): the total score of the assigned pairs, without noise.
    """
    num_predictions, capacity = scores.shape[1:]
    longest = min(num_predictions, capacity)  # instances on a path
    weights = scores if noise is None else scores + noise
    instances = torch.arange(capacity, device=scores.device)
    newest = (steps - 1).clamp_min(0)[:, None]
    holder = _invert(assignment, capacity)
    is_held = holder >= 0
    is_open = (instances < num_instances[:, None]) & (steps > 0)[:, None]

    # Rows of weights [B, N, N] of the holder of each instance and [B, N] of the newest prediction.
    held = weights.gather(1, holder.clamp_min(0)[:, :, None].expand(-1, -1, capacity)).double()
    own = held.diagonal(dim1=1, dim2=2)
    offered = weights.gather(1, newest[:, :, None].expand(-1, 1, capacity))[:, 0].double()

    # move[b, k, j]: loss if the holder of k takes j instead; first[b, j]: loss if the newest prediction takes j.
    is_move = is_held[:, :, None] & is_open[:, None, :]
    is_same = instances[:, None] == instances
    move = torch.where(is_move, own[:, :, None] - held + ARC_COST, torch.inf).masked_fill(is_same, 0)
    first = torch.where(is_open, ARC_COST - offered, torch.inf)
    loss = first  # [B, N], of the best path to each instance, so far as relaxed
    for _ in range(longest - 1):
        loss = (loss[:, :, None] + move).amin(1)
    # The instance before each one on its best path; itself where the newest prediction takes it.
    previous = torch.where(is_same, first[:, :, None], loss[:, :, None] + move).argmin(1)

    # While there are free instances a path ends at one, whatever it costs: no prediction is left without.
    is_free = is_open & ~is_held
    has_free = is_free.any(1, keepdim=True)
    end_loss = torch.where(has_free, torch.where(is_free, loss, torch.inf), torch.where(is_held, loss + own, torch.inf))
    no_path_loss = torch.where(has_free, torch.inf, 0.0)
    end = torch.cat([end_loss, no_path_loss], 1).argmin(1, keepdim=True)

    # All instances on the path, by jumps back of 1, 2, 4, ... instances; where the path starts, a jump stays.
    on_path, jump = (instances == end).int(), previous
    for _ in range((longest - 1).bit_length()):
        on_path = on_path.scatter_add(1, jump, on_path)
        jump = jump.gather(1, jump)
    taker = torch.where(previous == instances, newest, holder.gather(1, previous))
    assignment = _invert(torch.where(on_path > 0, taker, holder), num_predictions)
    pairs = scores.gather(2, assignment.clamp_min(0)[:, :, None])[:, :, 0]
    potential = torch.where(assignment >= 0, pairs, 0).sum(1, dtype=torch.float64).float()
    return assignment, potential


def from_scratch(
    scores: Tensor, steps: Tensor, num_instances: Tensor, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Assignment and potential of every scene, by SciPy on the host.

    Args:
        scores: `[B, T, N]`, padded.
        steps: `[B]` int64, predictions so far, at most `T`.
        num_instances: `[B]` int64, at most `N`.
        noise: `[B, T, N]`, added to the scores for the choice of the assignment only, Eq. (2).

    Returns:
        Assignment `[B, T]` int64, -1 where a prediction has no instance, and potential `[B]`, `phi_t` of Eq. (4):
        the total score of the assigned pairs, without noise.

    Raises:
        FloatingPointError: a score is not finite, as when the mask is not.
    """
    host_scores = scores.numpy(force=True)
    weights = host_scores if noise is None else host_scores + noise.numpy(force=True)
    if not np.isfinite(host_scores).all():
        raise FloatingPointError("scores of masks with instances must be finite, got nan or inf")
    assignment = np.full(host_scores.shape[:2], -1, dtype=np.int64)
    for scene, (taken, count) in enumerate(zip(steps.tolist(), num_instances.tolist(), strict=True)):
        rows, columns = linear_sum_assignment(weights[scene, :taken, :count], maximize=True)
        assignment[scene, rows] = columns
    firsts = np.arange(0, host_scores.size, host_scores.shape[2]).reshape(assignment.shape)
    pairs = host_scores.reshape(-1)[firsts + np.maximum(assignment, 0)]
    potential = (pairs * (assignment >= 0)).sum(1, dtype=np.float64).astype(np.float32)
    return torch.from_numpy(assignment).to(scores.device), torch.from_numpy(potential).to(scores.device)


def _invert(partners: Tensor, size: int) -> Tensor:
    """Whose partner each of `size` is, `[B, size]` int64, given a partner of each of `P`, `[B, P]`; -1 = nobody."""
    inverse = torch.full((len(partners), size + 1), -1, device=partners.device)
    members = torch.arange(partners.shape[1], device=partners.device).expand_as(partners)
    return inverse.scatter(1, partners + 1, members)[:, 1:]  # what has no partner falls into the first
