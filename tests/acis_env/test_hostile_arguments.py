"""Whatever an argument is given, an environment is made or one line names what is wrong."""

import functools
import inspect
from dataclasses import fields

import pytest

from acis_env import Cars, Leaves, SegmentationVectorEnv
from acis_env.augment import Augmentation
from acis_env.dynamics import Rules
from acis_env.weights import load_pretrained

HOSTILE = (None, True, -1, 0, 2.5, 10**30, float("nan"), "", "x", [], [1], {}, {"a": 1}, b"x", object())


def names_of(function, without):
    return [name for name in inspect.signature(function).parameters if name not in without]


ARGUMENTS = [*names_of(SegmentationVectorEnv.__init__, {"self", "rules", "compile"}), *(f.name for f in fields(Rules))]
LEAVES, CARS = (names_of(drawn.__init__, {"self", "split", "size"}) for drawn in (Leaves, Cars))


networks = functools.cache(load_pretrained)


def assert_explained(**options):
    problem = None
    given = {"scenes": "leaves", "weights": networks("leaves-64"), "scene_options": {"length": 2}, **options}
    try:
        SegmentationVectorEnv(**given)
    except (ValueError, FileNotFoundError) as error:
        problem = str(error)
    assert problem is None or "\n" not in problem


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_argument_of_an_environment(name):
    for value in HOSTILE:
        assert_explained(**{name: value})


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_of_the_leaves(name):
    for value in HOSTILE:
        assert_explained(scene_options={"length": 2, name: value})


@pytest.mark.parametrize("name", CARS)
def test_every_option_of_the_cars(name):
    for value in HOSTILE:
        assert_explained(scenes="dataset:cars", scene_options={"length": 2, name: value})


@pytest.mark.parametrize("name", [field.name for field in fields(Augmentation)])
def test_every_change_of_an_augmentation(name):
    for value in HOSTILE:
        assert_explained(augmentation={name: value})


def test_an_environment_whose_arguments_are_refused_can_be_closed_as_gymnasium_1_1_does_when_it_is_collected():
    made = []

    class Kept(SegmentationVectorEnv):
        def __init__(self, *args, **kwargs):
            made.append(self)
            super().__init__(*args, **kwargs)

    with pytest.raises(ValueError, match="num_envs must be"):
        Kept(0, scenes="leaves", weights="leaves-64")
    assert made[0].closed
    made[0].close()
    whole = Kept(1, scenes="leaves", weights="leaves-64")
    assert not whole.closed
    whole.close()
    assert whole.closed
