"""The drawn streets: reproducible, separate splits, and every car in sight and in the right order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import pytest
import torch

import acis_env
from acis_env.datasets import DATASETS, open_scenes
from acis_env.datasets import cars as drawing
from acis_env.datasets.cars import Cars
from acis_env.datasets.leaves import Leaves
from acis_env.datasets.scene import Scene
from acis_env.datasets.street.bodies import SHAPES
from acis_env.datasets.street.camera import Camera
from acis_env.datasets.street.cars import Car, distances, footprints
from acis_env.datasets.street.layout import Layout
from acis_env.datasets.street.light import Light
from acis_env.datasets.street.traffic import place_cars

SIZE = (64, 192)


def same(first: Scene, second: Scene) -> bool:
    return np.array_equal(first.image, second.image) and np.array_equal(first.label_map, second.label_map)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return list(Cars("train", SIZE, length=25))


def streets(number: int, count: int) -> Iterator[tuple[Camera, list[Car]]]:
    """Some streets with that many cars, and the cameras that see them."""
    seed = 0
    while count:
        rng = np.random.default_rng(seed)
        seed += 1
        layout = Layout.draw(rng, 1.0)
        camera = Camera.draw(rng, SIZE, 0.5 * layout.lane_width)
        cars = place_cars(rng, layout, camera, number, 32)
        if cars is not None:
            yield camera, cars
            count -= 1


def test_the_same_index_gives_the_same_scene_twice() -> None:
    assert same(Cars("val")[3], Cars("val")[3])


def test_two_indices_give_different_scenes() -> None:
    assert not same(Cars("val")[3], Cars("val")[4])


def test_another_seed_gives_other_scenes() -> None:
    assert not same(Cars(seed=0)[0], Cars(seed=1)[0])


def test_the_splits_share_no_scene() -> None:
    images = [
        scene.image.tobytes() for split in ("train", "val", "test") for scene in Cars(split, max_cars=4, length=10)
    ]
    assert len(set(images)) == 30


def test_streets_and_plants_of_one_seed_draw_different_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    first, make = set(), np.random.default_rng

    def watched(seed: Any) -> np.random.Generator:
        if isinstance(seed, np.random.SeedSequence):
            first.add(tuple(seed.generate_state(4).tolist()))
        return make(seed)

    monkeypatch.setattr(np.random, "default_rng", watched)
    for drawn in (Cars, Leaves):
        for split in ("train", "val", "test"):
            for index in range(3):
                drawn(split)[index]
    assert len(first) == 18


def test_a_scene_does_not_depend_on_the_length_of_the_dataset_or_on_what_was_drawn_before() -> None:
    dataset = Cars(length=500)
    dataset[0]
    assert same(dataset[7], Cars(length=8)[7])


def test_a_scene_depends_neither_on_global_random_numbers_nor_on_the_number_of_threads() -> None:
    before = Cars("val")[1]
    threads = cv2.getNumThreads()
    try:
        for number in (1, 3):
            np.random.seed(number)  # noqa: NPY002
            torch.manual_seed(number)
            cv2.setRNGSeed(number)
            cv2.setNumThreads(number)
            state = np.random.get_state()[1].copy()  # noqa: NPY002
            assert same(Cars("val")[1], before)
            assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    finally:
        cv2.setNumThreads(threads)


def test_scenes_drawn_by_several_threads_at_once_are_those_of_one_thread() -> None:
    dataset = Cars("train", (32, 64), length=12)
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(dataset.__getitem__, range(12)))
    assert all(same(scene, dataset[index]) for index, scene in enumerate(drawn))


def test_images_and_label_maps_have_the_shapes_and_types_of_a_scene(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert (scene.image.shape, scene.image.dtype) == ((3, *SIZE), np.uint8)
        assert (scene.require_label_map().shape, scene.require_label_map().dtype) == (SIZE, np.int32)


def test_labels_are_consecutive_and_every_number_of_cars_occurs(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert np.unique(scene.require_label_map()).tolist() == list(range(scene.num_instances + 1))
    few = Cars("train", (32, 64), min_cars=2, max_cars=5, length=30)
    assert {scene.num_instances for scene in few} == {2, 3, 4, 5}


@pytest.mark.parametrize("size", [(32, 64), (64, 64), (64, 128), (200, 64), (128, 384), (256, 768)])
def test_sixteen_cars_fit_into_pictures_of_every_shape_and_each_is_seen(size: tuple[int, int]) -> None:
    dataset = Cars("test", size, min_cars=16, length=2)
    assert dataset.max_instances == 16
    for scene in dataset:
        assert scene.image.shape == (3, *size)
        areas = np.bincount(scene.require_label_map().ravel())[1:]
        assert len(areas) == 16
        assert areas.min() >= dataset.min_area


def test_the_least_area_grows_with_the_picture() -> None:
    sizes = [(64, 64), (64, 128), (64, 192), (64, 384), (128, 384), (256, 768)]
    assert [Cars(size=size).min_area for size in sizes] == [4, 14, 32, 32, 128, 512]


def test_a_smaller_least_area_lets_smaller_cars_be_seen() -> None:
    areas = [
        min(
            np.bincount(scene.require_label_map().ravel())[1:].min()
            for scene in Cars(min_area=least, min_cars=8, length=15)
        )
        for least in (3, 32)
    ]
    assert 3 <= areas[0] < 32 <= areas[1]


def test_a_street_can_have_a_single_car() -> None:
    assert [scene.num_instances for scene in Cars(max_cars=1, length=3)] == [1, 1, 1]


def test_cars_run_from_the_farthest_to_the_nearest() -> None:
    for camera, cars in streets(12, 6):
        nearest = [min(corner[2] for corner in car) for car in footprints(cars, camera.bend).tolist()]
        assert nearest == sorted(nearest, reverse=True)


def test_a_larger_label_is_never_hidden_by_a_smaller_one() -> None:
    """Painting one car more, nearer than all before, takes nothing from it; the oracle paints each car alone."""
    light = Light.draw(np.random.default_rng(0))
    hidden = 0
    for camera, cars in streets(12, 4):
        together = np.zeros((*SIZE, 4), np.uint8)
        alone = []
        for label, car in enumerate(cars, start=1):
            car.draw(together, camera, light, 1.0, label)
            canvas = np.zeros((*SIZE, 4), np.uint8)
            car.draw(canvas, camera, light, 1.0, label)
            alone.append(canvas[..., 3] > 0)
        expected = np.zeros(SIZE, np.uint8)
        for row, column in np.argwhere(np.any(alone, 0)):
            expected[row, column] = max(label for label, mask in enumerate(alone, start=1) if mask[row, column])
        assert np.array_equal(together[..., 3], expected)
        hidden += sum(int(mask.sum()) for mask in alone) - int((expected > 0).sum())
    assert hidden > 500  # cars do hide each other


def first_met(camera: Camera, cars: list[Car], direction: float) -> int | None:
    """Number of the car that a ray along the ground meets first: small steps ahead until one is inside of a car."""
    corners = footprints(cars, camera.bend)[..., [0, 2]].astype(float)
    corners[..., 0] += camera.bend * corners[..., 1] ** 2
    edges = np.roll(corners, -1, 1) - corners
    steps = np.arange(1, 80, 0.05)[:, None, None]
    x, z = camera.x + steps * np.sin(direction) - corners[..., 0], steps * np.cos(direction) - corners[..., 1]
    step, car = np.nonzero((edges[..., 0] * z - edges[..., 1] * x > 0).all(-1))
    return int(car[0]) if len(step) else None


def test_of_the_cars_that_a_line_of_sight_crosses_the_first_has_the_largest_number() -> None:
    crossings = 0
    for camera, cars in streets(10, 5):
        for direction in np.linspace(-0.6, 0.6, 61):
            crossed = [index for index, car in enumerate(cars) if first_met(camera, [car], direction) is not None]
            assert first_met(camera, cars, direction) == max(crossed, default=None)
            crossings += len(crossed) > 1
    assert crossings > 20


def test_no_two_cars_are_in_one_place() -> None:
    for camera, cars in streets(12, 4):
        for first, second in ((a, b) for a in range(12) for b in range(a)):
            canvases = np.zeros((2, 700, 400), np.uint8)
            for canvas, index in zip(canvases, (first, second), strict=True):
                feet = footprints([cars[index]], 0.0)[0][:, [0, 2]] * 10 + [200, 0]
                cv2.fillConvexPoly(canvas, np.rint(feet).astype(np.int32), 1)
            assert (canvases[0] & canvases[1]).sum() == 0, (camera, first, second)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_nearer_car_of_one_kind_is_larger(kind: str) -> None:
    light = Light.draw(np.random.default_rng(0))
    camera = Camera(SIZE, focal=128, horizon=28, height=1.65, x=1.6, yaw=0, bend=0)
    areas = []
    for z in (8, 14, 25, 45):
        canvas = np.zeros((*SIZE, 4), np.uint8)
        Car(kind, (0.5, 0.5, 0.5), 1.6, z, 0.0, (1.0, 1.0, 1.0)).draw(canvas, camera, light, 1.0, 1)
        areas.append(int((canvas[..., 3] > 0).sum()))
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > 15 * areas[-1] > 0


def test_the_road_is_darkest_under_cars(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of pixels just below each car that has open road there, against the road a car's height lower."""
    ratios = []
    for scene in Cars("train", (128, 384), length=25, max_cars=5):
        grey = scene.image.mean(0)
        labels = scene.require_label_map()
        for label in range(1, scene.num_instances + 1):
            rows, columns = np.nonzero(labels == label)
            height, bottom = np.ptp(rows), rows.max()
            middle = slice(columns.min() + np.ptp(columns) // 4, columns.max() - np.ptp(columns) // 4)
            near, far = bottom + 1, bottom + max(height, 8)
            if far < 128 and height > 8 and not labels[near : far + 1, middle].any() and np.ptp(columns) > 8:
                ratios.append(grey[near, middle].mean() / grey[far, middle].mean())
    assert len(ratios) >= 15
    assert np.median(ratios) < 0.75


def test_streets_differ_in_light_and_cars_in_colour() -> None:
    brightness, colours = [], []
    for scene in Cars("train", SIZE, max_cars=5, length=25):
        brightness.append(float(scene.image.mean()))
        for label in range(1, scene.num_instances + 1):
            colours.append(scene.image[:, scene.require_label_map() == label].mean(1))
    assert max(brightness) > 1.4 * min(brightness)
    assert np.std(colours, 0).min() > 15


def test_the_default_lengths_are_those_of_the_splits() -> None:
    assert [len(Cars(split)) for split in ("train", "val", "test")] == [4000, 200, 200]


def test_a_negative_index_counts_from_the_end() -> None:
    dataset = Cars(length=5)
    assert same(dataset[-1], dataset[4])


@pytest.mark.parametrize("index", [5, -6])
def test_an_index_out_of_range_raises(index: int) -> None:
    with pytest.raises(IndexError, match=rf"{index} .* 5 scenes"):
        Cars(length=5)[index]


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("split", {"split": "validation"}),
        ("size", {"size": (31, 64)}),
        ("size", {"size": (64, 63)}),
        ("size", {"size": (64, 2049)}),
        ("size", {"size": (64, 192, 3)}),
        ("size", {"size": (64, 192.5)}),
        ("min_cars", {"min_cars": 0}),
        ("min_cars", {"min_cars": 6, "max_cars": 5}),
        ("min_cars", {"min_cars": 1.5}),
        ("max_cars", {"max_cars": 17}),
        ("min_area", {"min_area": 0}),
        ("min_area", {"min_area": 33}),
        ("length", {"length": 0}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": "0"}),
    ],
)
def test_a_bad_argument_raises_naming_it(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{argument} must"):
        Cars(**arguments)


def test_a_street_without_room_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "ATTEMPTS", 0)
    with pytest.raises(RuntimeError, match=r"no street with 3 cars in sight at \(64, 192\)"):
        Cars(min_cars=3, max_cars=3)[0]


def test_streets_are_opened_by_name_and_by_the_environment() -> None:
    assert same(open_scenes("dataset:cars", "val", SIZE)[2], Cars("val", SIZE)[2])
    assert DATASETS["cars"].environment == "ACIS/Cars-v0"
    assert acis_env.Cars is Cars


def test_the_environment_of_streets_needs_no_arguments() -> None:
    env = gym.make("ACIS/Cars-v0", split="test", sampler="sequential")
    observation, info = env.reset(seed=0)
    assert np.array_equal(observation["image"], Cars("test", SIZE)[0].image)
    assert info["num_instances"] == Cars("test", SIZE)[0].num_instances
    assert env.step(env.action_space.sample())[0]["mask"].shape == (1, *SIZE)


def test_distances_are_those_of_the_nearest_corners() -> None:
    for camera, cars in streets(5, 2):
        expected = [min(float(corner[2]) for corner in footprints([car], camera.bend)[0]) for car in cars]
        assert np.allclose(distances(cars, camera.bend), expected)


def test_streets_drawn_by_several_threads_are_those_drawn_in_turn(assert_same_scenes):
    cars = Cars(length=8)
    assert cars.is_thread_safe
    with ThreadPoolExecutor(4) as threads:
        assert_same_scenes(list(threads.map(cars.__getitem__, range(8))), list(cars))
