import numpy as np
import pytest
import torch

from acis_env.datasets.packed import PackedScenes
from acis_env.datasets.scene import Scene


class Scenes:
    """Scenes held in a list, which count how often each is decoded."""

    def __init__(self, label_maps, max_instances=None):
        self.label_maps = [np.asarray(label_map, np.int32) for label_map in label_maps]
        largest = max((int(label_map.max()) for label_map in self.label_maps), default=0)
        self.max_instances = largest if max_instances is None else max_instances
        self.decoded = [0] * len(self.label_maps)

    def __len__(self):
        return len(self.label_maps)

    def __getitem__(self, index):
        self.decoded[index] += 1
        label_map = self.label_maps[index]
        image = np.stack([label_map % 256, label_map * 0 + index, label_map * 0 + 100]).astype(np.uint8)
        return Scene(image, label_map, f"scene{index}")

    def __iter__(self):
        return (self[index] for index in range(len(self)))


class HandHeld(list):
    """A list of scenes, which is a data set."""

    max_instances = 2


def blocks(size, block, instances):
    """Label map `[size, size]` of adjoining square instances, row by row."""
    rows, columns = np.indices((size, size)) // block
    labels = rows * (size // block) + columns + 1
    return np.where(labels <= instances, labels, 0)


def test_gathered_scenes_of_the_packed_size_are_those_of_the_data_set():
    scenes = Scenes([blocks(32, 8, 3), blocks(32, 8, 5)])
    images, label_maps = PackedScenes(scenes, (32, 32)).gather([1, 0, 1])
    assert (images.dtype, images.shape) == (torch.uint8, (3, 3, 32, 32))
    assert (label_maps.dtype, label_maps.shape) == (torch.int64, (3, 32, 32))
    for row, index in enumerate([1, 0, 1]):
        np.testing.assert_array_equal(images[row].numpy(), scenes[index].image)
        np.testing.assert_array_equal(label_maps[row].numpy(), scenes[index].label_map)


def test_a_scene_is_decoded_once_and_only_when_asked_for():
    scenes = Scenes([blocks(32, 8, 3)] * 4)
    packed = PackedScenes(scenes, (32, 32))
    assert scenes.decoded == [0, 0, 0, 0]
    packed.gather([2, 2, 0])
    packed.gather(torch.tensor([0, 2]))
    assert scenes.decoded == [1, 0, 1, 0]
    assert packed.names == ("scene0", "scene1", "scene2", "scene3")
    assert scenes.decoded == [1, 1, 1, 1]


def test_changing_a_gathered_batch_leaves_the_packed_scenes_alone():
    packed = PackedScenes(Scenes([blocks(32, 8, 3)]), (32, 32))
    images, label_maps = packed.gather([0])
    images.zero_()
    label_maps.zero_()
    assert packed.gather([0])[0].any()
    assert packed.gather([0])[1].any()


@pytest.mark.parametrize(("instances", "dtype"), [(127, torch.int8), (128, torch.int16)])
def test_labels_take_the_smallest_type_that_holds_them_all(instances, dtype):
    packed = PackedScenes(Scenes([blocks(64, 4, instances)]), (64, 64))
    assert packed.label_dtype == dtype
    assert packed.gather([0])[1].unique().numel() == packed.max_instances + 1


def test_shrinking_drops_small_instances_and_closes_the_gap():
    label_map = blocks(64, 16, 3)
    label_map[label_map == 2] = 0
    label_map[40:42, 40:42] = 2
    packed = PackedScenes(Scenes([label_map]), (32, 32), min_area=4)
    np.testing.assert_array_equal(packed.gather([0])[1][0], np.where(blocks(32, 8, 3) == 3, 2, blocks(32, 8, 1)))
    np.testing.assert_array_equal(packed.scene(0).label_map, label_map)


def test_the_largest_instance_survives_when_all_are_too_small():
    label_map = np.zeros((96, 96), np.int32)
    label_map[0, 0] = 1
    label_map[60:62, 30] = 2
    packed = PackedScenes(Scenes([label_map]), (32, 32), min_area=4)
    assert packed.gather([0])[1][0].nonzero().tolist() == [[20, 10]]


def test_a_scene_without_instances_stays_without():
    packed = PackedScenes(Scenes([np.zeros((48, 48)), blocks(32, 8, 1)]), (32, 32))
    assert not packed.gather([0])[1].any()


@pytest.mark.parametrize("size", [(32, 48), (0, 32), (-32, 32), (32,), (32, 32, 3)])
def test_a_size_the_networks_cannot_halve_five_times_is_refused(size):
    with pytest.raises(ValueError, match="positive multiples of 32, got"):
        PackedScenes(Scenes([blocks(32, 8, 1)]), size)


def test_a_scene_without_a_label_map_is_packed_with_zeros():
    scenes = Scenes([blocks(48, 8, 3), blocks(48, 8, 2)])
    unlabelled = Scene(scenes[0].image, None, "test")
    images, label_maps = PackedScenes(HandHeld([unlabelled, scenes[1]]), (32, 32)).gather([0, 1])
    np.testing.assert_array_equal(images[0], PackedScenes(scenes, (32, 32)).gather([0])[0][0])
    assert not label_maps[0].any()
    assert label_maps[1].max() == 2


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="at least one scene"):
        PackedScenes(Scenes([], max_instances=1), (32, 32))


@pytest.mark.parametrize("index", [-1, 2])
def test_an_index_outside_the_data_set_is_refused_before_and_after_packing(index):
    packed = PackedScenes(Scenes([blocks(32, 8, 1)] * 2), (32, 32))
    for _ in range(2):
        with pytest.raises(IndexError, match=rf"\[0, 2\), got {index}"):
            packed.gather(torch.tensor([index]))
        packed.gather([0, 1])


def test_labels_with_gaps_are_renamed_at_every_resolution():
    scenes = Scenes([np.where(blocks(64, 16, 3) == 2, 9, blocks(64, 16, 3))], max_instances=3)
    packed = PackedScenes(scenes, (32, 32))
    np.testing.assert_array_equal(np.unique(packed.scene(0).label_map), [0, 1, 2, 3])
    assert packed.scene(0).num_instances == packed.gather([0])[1].max() == packed.num_instances[0] == 3


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        (blocks(32, 8, 1).astype(np.float32), "label_map must have an integer dtype, got float32"),
        (blocks(32, 8, 1) - 2, "must hold labels >= -1"),
        (torch.zeros(32, 32, dtype=torch.int64), "must be a NumPy array of integers, got Tensor"),
    ],
)
def test_labels_that_are_none_are_refused_with_the_name_of_the_scene(label_map, message):
    scenes = HandHeld([Scene(np.zeros((3, 32, 32), np.uint8), label_map, "odd")])
    for ask in (lambda packed: packed.gather([0]), lambda packed: packed.scene(0)):
        with pytest.raises(ValueError, match=f"odd: label_map.*{message}|odd: {message}"):
            ask(PackedScenes(scenes, (32, 32)))


def test_what_is_no_scene_and_what_is_no_count_are_refused():
    with pytest.raises(ValueError, match=r"dataset\[0\] must be a Scene, got tuple"):
        PackedScenes(HandHeld([(0, 0)]), (32, 32)).gather([0])
    for count in (-1, None, 2.5):
        scenes = HandHeld([])
        scenes.append(Scenes([blocks(32, 8, 1)])[0])
        scenes.max_instances = count
        with pytest.raises(ValueError, match=f"max_instances .* got {count}"):
            PackedScenes(scenes, (32, 32))


def test_more_instances_than_promised_are_noticed_even_where_resizing_would_lose_them():
    label_map = blocks(64, 16, 2)
    label_map[-1, -1] = 3
    with pytest.raises(ValueError, match="scene0: the data set promises at most 2 instances, this scene has 3"):
        PackedScenes(Scenes([label_map], max_instances=2), (32, 32)).gather([0])


def test_a_data_set_of_empty_scenes_has_room_for_an_instance():
    packed = PackedScenes(Scenes([np.zeros((32, 32)), np.zeros((32, 32))], max_instances=0), (32, 32))
    assert packed.max_instances == 1
    assert packed.num_instances.tolist() == [0, 0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_packed_scenes_are_the_same_on_every_device():
    scenes = Scenes([blocks(64, 8, 7), blocks(40, 10, 9)])
    on_host = PackedScenes(scenes, (32, 32)).gather([1, 0])
    on_gpu = PackedScenes(scenes, (32, 32), device="cuda").gather(torch.tensor([1, 0], device="cuda"))
    for host, gpu in zip(on_host, on_gpu, strict=True):
        assert gpu.device.type == "cuda"
        assert torch.equal(host, gpu.cpu())
