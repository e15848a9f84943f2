"""The parts of a step and of the policy, each alone: decoder, scores, matching, policy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from acis_env.matching import extend, from_scratch
from acis_env.reward import score
from acis_env.weights import Pretrained
from agents.models.actor import Actor
from agents.training.presets import COMPACT_ACTOR
from benchmarks.arguments import Arguments
from benchmarks.cases import NUM_INSTANCES, cases, contexts, grid, latents, make_env, shape_of
from benchmarks.straightforward import NaiveDecoder, best_assignment, dense_masks, dense_scores, naive_actor
from benchmarks.timing import Calls, Row, interleave

NAIVE = "straightforward"


def decoder(args: Arguments) -> list[Row]:
    """The decoder's forward pass, and the gradient of the masks with respect to the actions."""
    return [
        row
        for pretrained, source, batches in cases(args)
        for b in batches
        for row in _decoder(args, pretrained, b, source)
    ]


def _decoder(args: Arguments, pretrained: Pretrained, batch: int, source: str) -> list[Row]:
    ours = pretrained.autoencoder.decoder.freeze()
    naive = NaiveDecoder(ours)
    context, latent = contexts(pretrained, batch), latents(pretrained, batch)
    shape = shape_of(pretrained.size, batch)
    with torch.no_grad():
        conditioning = ours.condition(context)
        difference = (ours(latent, conditioning) - naive(latent, context)).abs().max().item()
        calls: Calls = {"ours": lambda: ours(latent, conditioning), NAIVE: lambda: naive(latent, context)}
        times = interleave(calls, args.repeats, args.device)
    note = f"masks differ by at most {difference:.1e}, {source}"
    rows = [Row("decoder forward", shape, times["ours"], times[NAIVE], NAIVE, note)]
    if batch > 8:
        return rows

    def gradient() -> Tensor:
        return action_gradient(lambda x: ours(x, conditioning), latent)

    def naive_gradient() -> Tensor:
        # On a CPU the graph of one scene at a time, as the forward pass.
        size = batch if latent.is_cuda else 1
        scenes = zip(latent.split(size), context.split(size), strict=True)
        return torch.cat([action_gradient(partial(naive, context=c), x) for x, c in scenes])

    difference = ((gradient() - naive_gradient()).norm() / naive_gradient().norm()).item()
    times = interleave({"ours": gradient, NAIVE: naive_gradient}, args.repeats, args.device)
    note = f"gradients differ by {difference:.1e} of their norm, {source}"
    return [*rows, Row("decoder forward + action gradient", shape, times["ours"], times[NAIVE], NAIVE, note)]


def action_gradient(decode: Callable[[Tensor], Tensor], latent: Tensor) -> Tensor:
    """Gradient of the masks' sum with respect to `latent` `[B, l]`."""
    leaf = latent.detach().requires_grad_()
    return torch.autograd.grad(decode(leaf).sum(), leaf)[0]


@torch.no_grad()
def scores(args: Arguments) -> list[Row]:
    """Scores of one mask per scene with all instances, and the memory that the ground truth takes."""
    return [_scores(args, pretrained, batch) for pretrained, _, batches in cases(args) for batch in batches]


def _scores(args: Arguments, pretrained: Pretrained, batch: int) -> Row:
    env = make_env(args, pretrained, grid(pretrained.size, NUM_INSTANCES), batch)
    env.reset(seed=0)
    label_maps, areas = env.state.label_map, env.state.areas
    targets = dense_masks(label_maps, NUM_INSTANCES)
    masks = torch.rand(label_maps.shape, generator=torch.Generator().manual_seed(0)).to(args.device)
    difference = (score(masks, label_maps, areas) - dense_scores(masks, targets)).abs().max().item()

    def naive() -> list[Tensor]:
        return [dense_scores(mask, instances) for mask, instances in zip(masks, targets, strict=True)]

    calls = {"ours": lambda: score(masks, label_maps, areas), NAIVE: naive}
    times = interleave(calls, args.repeats, args.device)
    kept, dense = label_maps.nbytes // batch, targets.nbytes // batch
    note = (
        f"N={NUM_INSTANCES}, differ by at most {difference:.1e}; ground truth per environment {kept:,} bytes instead "
        f"of {dense:,} ({dense / kept:.0f}x less)"
    )
    return Row("scores", shape_of(pretrained.size, batch), times["ours"], times[NAIVE], NAIVE, note)


def matching(args: Arguments) -> list[Row]:
    """The assignment after each step of episodes of random scores: kept up, and from scratch."""
    return [row for batch in ((1, 8) if args.quick else (1, 64, 1024)) for row in _matching(args, batch)]


@torch.no_grad()
def _matching(args: Arguments, batch: int) -> list[Row]:
    length = NUM_INSTANCES
    every_score = torch.rand(batch, length, length, generator=torch.Generator().manual_seed(0))
    is_taken = torch.ones(length, length).tril()[:, None, :, None]  # [t, 1, T, 1]
    prefixes = (every_score * is_taken).to(args.device)
    counts = torch.full((batch,), length, device=args.device)
    steps = torch.arange(1, length + 1, device=args.device)[:, None].expand(-1, batch)

    def incremental() -> Tensor:
        assignment = torch.full((batch, length), -1, device=args.device)
        for scores, taken in zip(prefixes, steps, strict=True):
            assignment, potentials = extend(scores, taken, counts, assignment)
        return potentials

    def batched() -> None:
        for scores, taken in zip(prefixes, steps, strict=True):
            from_scratch(scores, taken, counts)

    def naive() -> list[float]:
        for t, scores in enumerate(prefixes.cpu(), start=1):
            potentials = [best_assignment(scene[:t])[2] for scene in scores]
        return potentials

    difference = (incremental().cpu() - torch.tensor(naive())).abs().max().item()
    calls: Calls = {"extend": incremental, "from_scratch": batched, NAIVE: naive}
    times = interleave(calls, args.repeats, args.device)
    us = {name: f"{1000 * each.median / (length * batch):.1f} us" for name, each in times.items()}
    about = f"per environment step; potentials differ by at most {difference:.1e}"
    return [
        Row(name, f"N={length}, B={batch}", times[name], times[NAIVE], NAIVE, f"{us[name]} and {us[NAIVE]} {about}")
        for name in ("extend", "from_scratch")
    ]


def policy(args: Arguments) -> list[Row]:
    """The actor's forward pass, and one step of training it."""
    sizes = ((64, 64), (224, 224))
    return [
        _policy(args, pretrained, batch, with_gradient)
        for pretrained, _, batches in cases(args, sizes)
        for batch in batches
        if batch <= 8
        for with_gradient in (False, True)
    ]


def _policy(args: Arguments, pretrained: Pretrained, batch: int, with_gradient: bool) -> Row:
    torch.manual_seed(0)
    ours = Actor(pretrained.autoencoder.config, COMPACT_ACTOR).to(args.device)
    naive = naive_actor(ours)
    context = contexts(pretrained, batch)
    mask = torch.rand(batch, 1, *pretrained.size, generator=torch.Generator().manual_seed(0)).to(args.device)
    memory = ours.initial_memory(batch)
    with torch.no_grad():
        known = {actor: actor.condition(context) for actor in (ours, naive)}

    def call(actor: Actor) -> None:
        mean: Tensor = actor(known[actor], mask, memory).mean
        if with_gradient:
            mean.sum().backward()

    calls = {"ours": partial(call, ours), NAIVE: partial(call, naive)}
    with torch.set_grad_enabled(with_gradient):
        times = interleave(calls, args.repeats, args.device)
    name = "policy forward + backward" if with_gradient else "policy forward"
    note = "context conditioned before, without its gradient"
    return Row(name, shape_of(pretrained.size, batch), times["ours"], times[NAIVE], NAIVE, note)
