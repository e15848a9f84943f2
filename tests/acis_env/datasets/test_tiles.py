"""Pictures as windows that overlap, and instances that are joined across them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from acis_env.datasets import FolderScenes, PackedScenes, open_scenes
from acis_env.datasets.preprocessing import Squeeze, Tile
from acis_env.datasets.scene import IGNORED, Scene
from acis_env.datasets.tiles import TiledScenes, join, windowed, without_fragments
from acis_env.datasets.windows import Window
from acis_env.testing.trees import WRITERS

TILE = Tile((32, 32))


class Scenes:
    """Scenes held in a list, which count how often each is decoded."""

    max_instances = 9

    def __init__(self, scenes):
        self.scenes, self.decoded = scenes, [0] * len(scenes)

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        self.decoded[index] += 1
        return self.scenes[index]


def make_scene(label_map, name):
    label_map = np.asarray(label_map, np.int32)
    image = np.stack([label_map * 20, *np.indices(label_map.shape)]).astype(np.uint8)
    return Scene(image, label_map, name, label_map > 0)


def boxes(size, *corners):
    label_map = np.zeros(size, np.int32)
    for label, (top, left, bottom, right) in enumerate(corners, start=1):
        label_map[top:bottom, left:right] = label
    return label_map


@pytest.fixture
def scenes():
    large = boxes((70, 50), (20, 4, 45, 40), (50, 30, 68, 48))
    return Scenes([make_scene(large, "large"), make_scene(boxes((20, 30), (2, 2, 9, 9)), "small")])


def windows_of(label_map, tile=TILE):
    """The windows of a label map, each with labels of its own."""
    windows = tile.windows(label_map.shape)
    return [window.cut_labels(label_map) for window in windows], windows


def put_together(label_maps, windows, size):
    """The label map `[h, w]` that joined windows make; -2 where they contradict each other."""
    whole = np.zeros(size, np.int32)
    for number, group in enumerate(without_fragments(join(label_maps, windows), label_maps, windows), start=1):
        for k, label in group:
            mask = np.zeros(size, bool)
            windows[k].paste(label_maps[k] == label, mask)
            whole[mask] = np.where(np.isin(whole[mask], [0, number]), number, -2)
    return whole


def same_partition(first, second):
    """Whether two label maps name the same instances, by whatever labels."""
    pairs = {(a, b) for a, b in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) and ((0, 0) in pairs)


def test_an_instance_in_four_windows_is_one():
    label_map = boxes((50, 50), (15, 15, 40, 40))
    label_maps, windows = windows_of(label_map)
    assert [found.max() for found in label_maps] == [1, 1, 1, 1]
    assert join(label_maps, windows) == [[(0, 1), (1, 1), (2, 1), (3, 1)]]
    np.testing.assert_array_equal(put_together(label_maps, windows, (50, 50)), label_map)


def test_instances_that_touch_in_the_overlap_stay_apart():
    label_map = boxes((32, 50), (8, 4, 16, 46), (16, 4, 24, 46))
    label_maps, windows = windows_of(label_map)
    assert len(windows) == 2
    assert join(label_maps, windows) == [[(0, 1), (1, 1)], [(0, 2), (1, 2)]]
    np.testing.assert_array_equal(put_together(label_maps, windows, (32, 50)), label_map)


def test_two_instances_of_a_window_are_never_joined_by_one_that_covers_both():
    first = boxes((10, 10), (0, 6, 5, 10), (5, 6, 9, 10))  # two, of 20 and 16 px in the overlap
    second = boxes((10, 10), (0, 0, 9, 4))  # one, where both are
    windows = [Window(0, 0, 10, 10), Window(0, 6, 10, 10)]
    assert join([first, second], windows) == [[(0, 1), (1, 1)], [(0, 2)]]


def test_instances_that_only_graze_each_other_in_the_overlap_are_two():
    first, second = boxes((10, 10), (0, 0, 10, 8)), boxes((10, 10), (0, 1, 10, 10))
    assert len(join([first, second], [Window(0, 0, 10, 10), Window(0, 6, 10, 10)])) == 2
    assert len(join([first, first[:, ::-1]], [Window(0, 0, 10, 10), Window(0, 10, 10, 10)])) == 2  # no overlap


def test_ignored_pixels_decide_nothing():
    first, second = boxes((10, 10), (0, 4, 10, 10)), boxes((10, 10), (0, 0, 5, 6))
    second[5:] = IGNORED
    windows = [Window(0, 0, 10, 10), Window(0, 6, 10, 10)]
    assert join([first, second], windows) == [[(0, 1), (1, 1)]]


def test_instances_come_in_the_order_of_their_lowest_label():
    label_maps = [boxes((10, 10), (0, 0, 2, 2), (4, 0, 6, 2)), boxes((10, 10), (0, 5, 2, 8), (4, 5, 6, 8))]
    windows = [Window(0, 0, 10, 10), Window(0, 30, 10, 10)]
    assert join(label_maps, windows) == [[(0, 1)], [(1, 1)], [(0, 2)], [(1, 2)]]


def test_an_instance_that_a_window_shows_whole_is_what_that_one_shows():
    label_maps, windows = windows_of(boxes((32, 50), (8, 20, 16, 30)))  # in both, cut by neither
    assert without_fragments(join(label_maps, windows), label_maps, windows) == [[(0, 1), (1, 1)]]
    label_maps, windows = windows_of(boxes((32, 50), (8, 14, 16, 30)))  # the second begins in its middle
    assert windows[1].x == 18
    assert without_fragments(join(label_maps, windows), label_maps, windows) == [[(0, 1)]]
    label_maps, windows = windows_of(boxes((32, 50), (8, 4, 16, 46)))  # no window has all of it
    assert without_fragments(join(label_maps, windows), label_maps, windows) == [[(0, 1), (1, 1)]]


def test_a_fragment_goes_where_another_window_shows_more_of_it_and_an_instance_of_its_own_stays():
    windows = [Window(0, 0, 10, 10), Window(0, 6, 10, 10)]
    whole = boxes((10, 10), (2, 2, 8, 9))
    sliver = boxes((10, 10), (2, 0, 5, 2))  # in a corner of the whole, of which the overlap shows 6 x 3
    apart = boxes((10, 10), (8, 0, 10, 2))
    for second, expected in ((sliver, [[(0, 1)]]), (apart, [[(0, 1)], [(1, 1)]])):
        groups = join([whole, second], windows)
        assert groups == [[(0, 1)], [(1, 1)]]
        assert without_fragments(groups, [whole, second], windows) == expected


def test_of_two_fragments_that_lie_in_each_other_the_larger_stays():
    windows = [Window(0, 0, 10, 10), Window(0, 4, 10, 10)]
    first, second = boxes((10, 10), (0, 5, 6, 10)), boxes((10, 10), (0, 0, 3, 5))
    groups = join([first, second], windows)
    assert len(groups) == 2
    assert without_fragments(groups, [first, second], windows) == [[(0, 1)]]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_rectangles_cut_into_windows_are_the_same_rectangles_when_joined(data):
    h, w = data.draw(st.integers(20, 110)), data.draw(st.integers(20, 110))
    corners = []
    for _ in range(data.draw(st.integers(1, 6))):
        top, left = data.draw(st.integers(0, h - 2)), data.draw(st.integers(0, w - 2))
        corners.append((top, left, data.draw(st.integers(top + 1, h)), data.draw(st.integers(left + 1, w))))
    label_map = boxes((h, w), *corners)
    for label in np.unique(label_map):  # an instance that others cut in two cannot be joined; leave it out
        rows, columns = np.nonzero(label_map == label)
        if label and len(rows) != (np.ptp(rows) + 1) * (np.ptp(columns) + 1):
            label_map[label_map == label] = 0
    label_map[0, 0] = 0
    tile = Tile((32, 32), overlap=data.draw(st.sampled_from([0.25, 0.5])))
    label_maps, windows = windows_of(label_map, tile)
    assert same_partition(put_together(label_maps, windows, (h, w)), label_map)


def test_the_windows_of_a_data_set_are_scenes_that_show_the_same_pixels(scenes):
    tiled = TiledScenes(scenes, TILE)
    assert len(tiled) == 2 * 3 + 1
    assert tiled.max_instances == 9
    assert [tiled.windows_of(number) for number in (0, 1)] == [range(6), range(6, 7)]
    for index, scene in enumerate(tiled):
        name, place = scene.name.split("@")
        picture = scenes[0 if name == "large" else 1]
        y, x = map(int, place.split(","))
        rows, columns = np.indices((32, 32)) + np.array([y, x])[:, None, None]
        inside = (rows >= 0) & (columns >= 0) & (rows < picture.image.shape[1]) & (columns < picture.image.shape[2])
        np.testing.assert_array_equal(scene.image[:, inside], picture.image[:, rows[inside], columns[inside]])
        np.testing.assert_array_equal(scene.foreground[inside], picture.foreground[rows[inside], columns[inside]])
        np.testing.assert_array_equal(scene.label_map[inside] > 0, scene.foreground[inside])
        assert (scene.label_map[~inside] == IGNORED).all()
        assert (index == 6) == (not inside.all())
    with pytest.raises(IndexError, match=r"\[0, 7\), got 7"):
        tiled[7]


def test_a_picture_is_decoded_once_for_its_windows_and_once_for_its_size(scenes):
    tiled = TiledScenes(scenes, TILE)
    assert scenes.decoded == [1, 1]
    for scene in tiled:
        assert scene.image.shape == (3, 32, 32)
    assert scenes.decoded == [2, 2]


def test_a_data_set_that_knows_its_sizes_is_not_decoded_for_them(scenes):
    scenes.sizes = [(70, 50), (20, 30)]
    assert len(TiledScenes(scenes, TILE)) == 7
    assert scenes.decoded == [0, 0]


def test_a_folder_knows_the_sizes_of_its_scenes(tmp_path):
    for name, size in (("a", (40, 50)), ("b", (33, 20))):
        Image.fromarray(boxes(size, (10, 5, 30, 30)).astype(np.uint8)).save(tmp_path / f"{name}_label.png")
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / f"{name}_rgb.png")
    assert FolderScenes(tmp_path).sizes == [(40, 50), (33, 20)]
    assert FolderScenes(tmp_path, crop="centre", crop_size=16).sizes == [(16, 16), (16, 16)]
    assert FolderScenes(tmp_path, scale=0.5).sizes == [
        scene.image.shape[1:] for scene in FolderScenes(tmp_path, scale=0.5)
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("masks", {}),
        ("masks", {"scale": 0.5}),
        ("masks", {"crop": "random", "crop_size": 16, "crops_per_image": 2}),
        ("kitti", {}),
        ("kitti", {"crop": (32, 64)}),
        ("cvppp", {}),
    ],
)
def test_data_sets_of_files_know_the_sizes_of_their_scenes(tmp_path, name, options):
    WRITERS[name](tmp_path)
    scenes = open_scenes(f"dataset:{name}", "train", (32, 32), {"root": tmp_path, **options})
    expected = [scene.image.shape[1:] for scene in scenes]
    if name != "cvppp":
        assert scenes.sizes == expected
    assert len(TiledScenes(scenes, TILE)) == sum(len(TILE.windows(size)) for size in expected)


def test_pictures_are_whole_and_have_labels_without_gaps(scenes):
    scenes.scenes[0] = make_scene(2 * scenes.scenes[0].label_map, "large")
    picture = TiledScenes(scenes, TILE).picture(0)
    assert picture.image.shape == (3, 70, 50)
    assert set(np.unique(picture.label_map)) == {0, 1, 2}


def test_at_another_scale_image_and_labels_of_a_window_stay_aligned(scenes):
    tiled = TiledScenes(scenes, Tile((32, 32), scale=2.0))
    assert len(tiled.windows_of(0)) == len(Tile((32, 32)).windows((140, 100)))
    for scene in tiled:
        bright = scene.image[0] > 10
        known = scene.label_map >= 0
        assert (bright[known] == (scene.label_map[known] > 0)).mean() > 0.9


def test_packed_scenes_are_the_windows_only_where_the_preprocessing_tiles(scenes):
    packed = PackedScenes(scenes, (32, 32), min_area=1, preprocessing="tile")
    assert len(packed) == 7
    assert isinstance(packed.dataset, TiledScenes)
    images, label_maps = packed.gather(range(6))
    for index in range(6):
        np.testing.assert_array_equal(images[index].numpy(), packed.dataset[index].image)
        np.testing.assert_array_equal(label_maps[index].numpy(), packed.dataset[index].label_map)
    assert len(PackedScenes(scenes, (32, 32), preprocessing="shorter-side")) == 2
    assert windowed(scenes, Squeeze((32, 32))) == (scenes, Squeeze((32, 32)))
