"""The published pipeline: what its commands ask for, and how long it would take."""

from dataclasses import replace
from pathlib import Path

import pytest

from acis_env.testing.trees import write_kitti
from agents.experiments.paper import RECIPES, Settings, plan_steps, quoted
from agents.experiments.paper_time import estimate, format_estimate


def settings_of(name, quick=False, out="out", **changes):
    recipe = replace(RECIPES[name], **changes)
    return Settings(recipe, Path("data"), Path(out), quick, seed=3, device="cpu")


def option(step, name):
    return step.arguments[step.arguments.index(name) + 1]


@pytest.mark.parametrize(
    ("name", "batches", "size", "latent"), [("cvppp", 13, "224", "16"), ("kitti", 464, "256", "64")]
)
def test_the_whole_pipeline_has_the_published_budgets(name, batches, size, latent):
    context, decoder, training, evaluation, submission = plan_steps(settings_of(name))
    assert (option(context, "--iterations"), option(decoder, "--iterations")) == (
        str(300 * batches),
        str(800 * batches),
    )
    assert (option(context, "--learning-rate"), option(decoder, "--learning-rate")) == ("0.001", "0.0002")
    for step in (context, decoder):
        assert (option(step, "--batch-size"), option(step, "--size"), option(step, "--weight-decay")) == (
            "8",
            size,
            "0.0001",
        )
        assert option(step, "--architecture") == "paper"
    assert option(decoder, "--latent-size") == latent
    assert training.arguments[:2] == ("train", f"paper-{name}")
    assert not [argument for argument in training.arguments if argument.startswith("--stages")]
    assert option(evaluation, "--split") == "val"
    assert submission.arguments[:2] == ("submit", name)
    for step in (context, decoder, training, evaluation, submission):
        assert option(step, "--root") == "data"


def test_plants_are_turned_and_streets_are_mirrored():
    plants, streets = (plan_steps(settings_of(name))[0].arguments for name in ("cvppp", "kitti"))
    assert {"--augmentation.no-flip", "--augmentation.no-quarter-turns", "--augmentation.rotation"} <= set(plants)
    assert {"--augmentation.flip", "--augmentation.no-quarter-turns"} <= set(streets)
    assert "--augmentation.rotation" not in streets


def test_a_quick_pipeline_takes_at_most_two_updates_of_a_kind():
    context, decoder, training, *_ = plan_steps(settings_of("cvppp", quick=True))
    numbers = [option(context, "--iterations"), option(decoder, "--iterations")]
    numbers += [option(training, f"--stages.{number}.iterations") for number in range(8)]
    assert max(map(int, numbers)) <= 2


def test_commands_are_printed_as_they_may_be_typed():
    assert quoted(("pretrain", "context", "--scene-options", '{"a": 1}')) == (
        "acis pretrain context --scene-options '{\"a\": 1}'"
    )


def test_the_estimate_is_the_sum_over_all_kinds_of_updates(tmp_path):
    write_kitti(tmp_path / "data", images=5)
    tiny = replace(RECIPES["kitti"], size=(32, 32), latent_size=3, architecture="compact")
    settings = Settings(tiny, tmp_path / "data", tmp_path / "out", quick=False, seed=0, device="cpu")
    timed = list(estimate(settings))
    schedule = [stage.iterations for stage in tiny.preset.stages]
    assert [kind.number for kind in timed] == [
        300 * tiny.updates_per_epoch,
        800 * tiny.updates_per_epoch,
        *schedule[:5],
        1024,
        schedule[5] - 1024,
        *schedule[6:],
    ]
    assert all(kind.seconds > 0 for kind in timed)
    hours = sum(kind.number * kind.seconds for kind in timed) / 3600
    *rows, last = list(format_estimate(timed, "cpu"))[1:]
    assert len(rows) == len(timed)
    assert last.startswith(f"all: {hours:.3g} hours, or {hours / 24:.3g} days, on cpu")
    assert not (tmp_path / "out").exists()
