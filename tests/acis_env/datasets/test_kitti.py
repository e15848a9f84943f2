"""Cars of KITTI load from every layout, and those that nobody has told apart are none."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from acis_env.datasets import DATASETS, KittiScenes, open_scenes
from acis_env.testing.trees import write_kitti

REAL = Path(__file__).parents[4] / "shared" / "data" / "kitti_semantics_7"
SIZE = (94, 310)
CROP = (64, 192)


@pytest.fixture(scope="module", params=["a", "b", "c"])
def tree(request, tmp_path_factory):
    """A small tree in one of the layouts: its letter, its folder, and the scenes that were written."""
    root = tmp_path_factory.mktemp(request.param)
    return request.param, root, write_kitti(root, request.param, size=SIZE)


@pytest.fixture
def semantics(tmp_path):
    """A small tree of the semantics release that may be spoiled, and its scenes."""
    return tmp_path, write_kitti(tmp_path, "b", size=SIZE)


def largest_by_hand(label_map, most):
    """The `most` largest instances, found by counting the pixels of one after the other."""
    labels = sorted(set(label_map.ravel().tolist()) - {0, -1})
    kept = sorted(labels, key=lambda label: (-int((label_map == label).sum()), label))[:most]
    result = np.zeros_like(label_map)
    result[label_map == -1] = -1
    for label in labels:
        result[label_map == label] = 1 + sorted(kept).index(label) if label in kept else -1
    return result


def names(scenes):
    return [scene.name for scene in scenes]


def test_every_layout_gives_the_scenes_that_were_written(tree):
    _, root, written = tree
    scenes = [scene for split in ("trainval", "test") for scene in KittiScenes(split, root=root, min_cars=0)]
    assert sorted(names(scenes)) == sorted(written)
    for scene in scenes:
        np.testing.assert_array_equal(scene.image, written[scene.name].image)
        if (truth := written[scene.name].label_map) is None:
            assert scene.label_map is None
        else:
            np.testing.assert_array_equal(scene.label_map, largest_by_hand(truth, 16))
    assert any(scene.num_instances == 16 for scene in scenes if scene.label_map is not None)


def test_the_folder_is_recognised_for_what_it_is(tree):
    assert [name for name, known in DATASETS.items() if known.recognise and known.recognise(tree[1])][-1] == "kitti"


def test_every_layout_has_its_own_splits(tree):
    layout, root, _ = tree
    splits = {split: names(KittiScenes(split, root=root)) for split in ("train", "val", "trainval", "test")}
    assert splits["trainval"] == sorted(splits["train"] + splits["val"])
    if layout == "b":
        assert splits["val"] == ["000004_10", "000009_10"]
        assert splits["test"] == ["000010_10", "000011_10"]
    else:
        assert splits["train"] == [f"{number:06d}" for number in (0, 1, 2, 5, 6, 7)]
        assert (splits["val"], splits["test"]) == (["000004", "000009"], ["000003", "000008"])


def test_images_without_cars_are_left_out_only_where_no_list_names_them(tree):
    layout, root, _ = tree
    empty = "000003_10" if layout == "b" else "000003"
    split = "train" if layout == "b" else "test"
    assert (empty in names(KittiScenes(split, root=root))) == (layout != "b")
    assert empty in names(KittiScenes(split, root=root, min_cars=0))
    assert empty not in names(KittiScenes(split, root=root, min_cars=1))
    if layout == "b":
        assert empty in names(KittiScenes("train", root=root, ids={"train": ["000000", "000003"]}))


def test_a_list_of_ids_takes_the_place_of_the_split(tree, tmp_path):
    layout, root, _ = tree
    (tmp_path / "mine.txt").write_text("1\n\n0\n0\n" if layout == "a" else "000001\n\n000000\n000000\n")
    by_file = KittiScenes("train", root=root, ids={"train": str(tmp_path / "mine.txt")})
    by_name = KittiScenes("train", root=root, ids={"train": ["000000", "000001"]})
    assert names(by_file) == names(by_name)
    assert [name[:6] for name in names(by_file)] == ["000000", "000001"]


def test_test_images_of_the_semantics_release_may_be_labelled_ones_by_a_list(semantics):
    root, written = semantics
    (scene,) = KittiScenes("test", root=root, ids={"test": ["000002_10"]})
    np.testing.assert_array_equal(scene.label_map, written["000002_10"].label_map)


def test_coarse_label_maps_do_where_a_list_of_ones_own_names_images_without_a_manual_one(tmp_path):
    written = write_kitti(tmp_path, "a", size=SIZE)
    (scene,) = KittiScenes("val", root=tmp_path, ids={"val": ["5"]})
    np.testing.assert_array_equal(scene.label_map, written["000005"].label_map)


def test_no_scene_has_more_than_the_limit_and_the_smallest_cars_are_ignored(tree):
    _, root, written = tree
    for scene in KittiScenes("train", root=root, max_cars=3):
        truth = written[scene.name].label_map
        np.testing.assert_array_equal(scene.label_map, largest_by_hand(truth, 3))
        assert scene.num_instances <= KittiScenes("train", root=root, max_cars=3).max_instances == 3


def test_crops_are_windows_of_training_images_each_with_a_car(tree):
    _, root, written = tree
    whole = {scene.name: scene for scene in KittiScenes("train", root=root, max_cars=99)}
    scenes = KittiScenes("train", root=root, crop=CROP, crops_per_image=4)
    assert len(scenes) == 4 * len(whole)
    assert len(set(names(scenes))) > 2 * len(whole)
    for scene in scenes:
        name, place = scene.name.split("@")
        y, x, size = place.split(",")
        assert size == "64x192"
        window = np.s_[..., int(y) : int(y) + CROP[0], int(x) : int(x) + CROP[1]]
        np.testing.assert_array_equal(scene.image, written[name].image[window])
        np.testing.assert_array_equal(scene.label_map, largest_by_hand(whole[name].label_map[window], 16))
        assert scene.num_instances > 0
    again = KittiScenes("train", root=root, crop=CROP, crops_per_image=4)
    assert names(again) == names(scenes)
    assert names(KittiScenes("train", root=root, crop=CROP, crops_per_image=4, seed=1)) != names(scenes)


def test_a_scene_is_the_same_whatever_was_asked_for_before(tree):
    scenes = KittiScenes("train", root=tree[1], crop=CROP, crops_per_image=2)
    last = scenes[-1]
    assert last.name == list(scenes)[-1].name
    np.testing.assert_array_equal(last.image, scenes[len(scenes) - 1].image)


def test_a_crop_finds_the_only_car_however_small_it_is(tmp_path):
    write_kitti(tmp_path, "b", size=SIZE)
    label = tmp_path / "training" / "instance" / "000000_10.png"
    codes = np.full(SIZE, 7 * 256, np.uint16)
    codes[0, 309] = 26 * 256 + 1
    Image.fromarray(codes).save(label)
    scenes = KittiScenes(root=tmp_path, ids={"train": ["000000"]}, crop=(16, 16), crops_per_image=5)
    assert [scene.num_instances for scene in scenes] == [1] * 5


def test_evaluation_shows_whole_images_although_training_is_on_crops(tree):
    for split in ("val", "test"):
        for scene in KittiScenes(split, root=tree[1], crop=CROP, crops_per_image=3):
            assert scene.image.shape[1] > CROP[0]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real scenes are not here")
def test_real_scenes_have_the_cars_of_the_definition_and_none_of_instance_0():
    scenes = KittiScenes("trainval", root=REAL, max_cars=256)
    assert names(scenes) == [f"{number:06d}_10" for number in range(7)]
    for scene in scenes:
        with Image.open(REAL / "training" / "instance" / f"{scene.name}.png") as image:
            codes = np.array(image).astype(int)
        expected, unknown, count = np.zeros(codes.shape, int), np.zeros(codes.shape, bool), 0
        for code in sorted(set(codes.ravel().tolist())):
            if code // 256 == 26 and code % 256 >= 1:
                count += 1
                expected[codes == code] = count
            unknown |= (codes == code) & (code in (0, 26 * 256))
        assert scene.num_instances == count
        np.testing.assert_array_equal(scene.label_map, np.where(unknown, -1, expected))
        assert not (scene.label_map[codes == 26 * 256] > 0).any()


@pytest.mark.skipif(not REAL.is_dir(), reason="the real scenes are not here")
def test_of_real_scenes_the_16_largest_cars_stay():
    for scene, whole in zip(
        KittiScenes("trainval", root=REAL), KittiScenes("trainval", root=REAL, max_cars=256), strict=True
    ):
        np.testing.assert_array_equal(scene.label_map, largest_by_hand(whole.label_map, 16))


def test_a_label_map_that_was_cut_to_8_bits_is_refused(semantics):
    path = semantics[0] / "training" / "instance" / "000000_10.png"
    with Image.open(path) as image:
        cut = np.array(image).astype(np.uint8)
    Image.fromarray(cut).save(path)
    with pytest.raises(ValueError, match=rf"{path} must hold class \* 256 \+ instance in 16 bits, got uint8"):
        KittiScenes(root=semantics[0])


def test_300_colours_are_300_cars_of_which_16_stay(tmp_path):
    write_kitti(tmp_path, "a", size=SIZE)
    colours = np.zeros((*SIZE, 3), np.uint8)
    for number in range(300):
        row, column = 2 * (number // 50), number % 50 * 6
        colours[row : row + 2, column : column + 4] = (number % 256, number // 256 + 1, 7)
    Image.fromarray(colours).save(tmp_path / "gt" / "000000.png")
    scene = KittiScenes(root=tmp_path, ids={"train": ["0"]}, max_cars=300)[0]
    assert scene.num_instances == 300
    limited = KittiScenes(root=tmp_path, ids={"train": ["0"]})[0]
    assert (limited.num_instances, int((limited.label_map == -1).sum())) == (16, (300 - 16) * 8)


def test_sizes_that_differ_are_both_named(semantics):
    path = semantics[0] / "training" / "instance" / "000000_10.png"
    Image.fromarray(np.ones((5, 4), np.uint16)).save(path)
    with pytest.raises(ValueError, match=rf"000000_10\.png is 94x310 but its label map is 5x4 .*{path}"):
        KittiScenes(root=semantics[0], min_cars=0)


def test_an_image_smaller_than_its_crop_is_named(semantics):
    root, _ = semantics
    for path in (root / "training").glob("*/000000_10.png"):
        with Image.open(path) as image:
            image.crop((0, 0, 1, 1)).save(path)
    scene = KittiScenes(root=root, min_cars=0)[0]
    assert scene.image.shape == (3, 1, 1)
    with pytest.raises(ValueError, match=r"000000_10\.png is 1x1, smaller than the crop of 64x192"):
        KittiScenes(root=root, min_cars=0, crop=CROP)


def test_a_list_that_names_absent_files_is_named_with_them(tree):
    _, root, _ = tree
    ids = ["000000", "000077", "000078"]
    with pytest.raises(FileNotFoundError, match=r"ids\['train'\] names 2 of 3 images that are not in .*000077.*000078"):
        KittiScenes(root=root, ids={"train": ids})
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt: no such file; expected a list of ids, one a line"):
        KittiScenes(root=root, ids={"train": "nowhere.txt"})


def test_the_official_list_is_named_if_an_image_of_it_is_absent(tmp_path):
    write_kitti(tmp_path, "a", size=SIZE)
    (tmp_path / "images" / "000005.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path / 'train.txt'} names 1 of 6 images .*: 000005; expected"):
        KittiScenes(root=tmp_path)
    (tmp_path / "valid_man.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"valid_man\.txt: no such file"):
        KittiScenes("val", root=tmp_path)


@pytest.mark.parametrize(("content", "found"), [(b"\n \n", "got none"), (b"\xff\xfe\x00", "bytes that are none")])
def test_a_list_without_ids_is_named(content, found, tmp_path):
    write_kitti(tmp_path, "a", size=SIZE)
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"train\.txt: expected .*one.*a line, {found}|{found}"):
        KittiScenes(root=tmp_path)


@pytest.mark.parametrize(
    ("layout", "label", "split"),
    [
        ("a", "gt_man/000004.png", "val"),
        ("b", "training/instance/000000_10.png", "train"),
        ("c", "train/000001_labels.png", "train"),
    ],
)
def test_a_missing_label_map_is_named(layout, label, split, tmp_path):
    write_kitti(tmp_path, layout, size=SIZE)
    (tmp_path / label).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path / label}: no such label map"):
        KittiScenes(split, root=tmp_path)


def test_a_damaged_picture_is_named(semantics):
    path = semantics[0] / "training" / "instance" / "000000_10.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=rf"{path} cannot be decoded as PNG, is it damaged\?"):
        KittiScenes(root=semantics[0])


def test_a_folder_without_kitti_is_named_with_what_is_in_it(tmp_path):
    (tmp_path / "data_object_image_2.zip").touch()
    with pytest.raises(FileNotFoundError, match=r"no cars of KITTI; expected images and gt; .* found data_object"):
        KittiScenes(root=tmp_path)


def test_a_split_without_images_is_named(semantics):
    for path in (semantics[0] / "testing").rglob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"split 'test' has no image"):
        KittiScenes("test", root=semantics[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "valid"}, r"split must be one of train, val, trainval, test, got 'valid'"),
        ({"crop": (256,)}, r"crop must be \(height, width\), two positive numbers of pixels, got \(256,\)"),
        ({"crop": "256x768"}, r"crop must be"),
        ({"crops_per_image": 2}, r"crops_per_image must be 1, or more with a crop, got 2"),
        ({"max_cars": 0}, r"max_cars must be at least 1, got 0"),
        ({"seed": -1}, r"seed must be an int from 0 on, got -1"),
        ({"ids": {"valid": []}}, r"ids must be lists of the splits .* got one of 'valid'"),
    ],
)
def test_arguments_out_of_range_are_named(options, message, semantics):
    with pytest.raises(ValueError, match=message):
        KittiScenes(root=semantics[0], **options)


def test_a_picture_that_has_no_number_is_named(semantics):
    root = semantics[0]
    path = root / "training" / "image_2" / "mean.png"
    path.write_bytes((root / "training" / "image_2" / "000000_10.png").read_bytes())
    with pytest.raises(ValueError, match=rf"{path}: expected a name that is a number, as 000000_10\.png"):
        KittiScenes(root=root)


def test_the_registry_opens_it_by_an_environment_variable(semantics, monkeypatch):
    monkeypatch.setenv("ACIS_KITTI_ROOT", str(semantics[0]))
    assert names(open_scenes("kitti", "val", (64, 64))) == ["000004_10", "000009_10"]
    monkeypatch.setenv("ACIS_KITTI_ROOT", str(semantics[0] / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"ACIS_KITTI_ROOT must be a folder .* Get the data from https://www"):
        open_scenes("kitti", "val", (64, 64))


def test_the_fingerprint_is_of_files_and_options(semantics):
    root, _ = semantics
    plain = KittiScenes(root=root).fingerprint
    assert plain == KittiScenes(root=root).fingerprint
    others = [
        KittiScenes(root=root, **options).fingerprint
        for options in ({"crop": CROP}, {"crop": CROP, "seed": 1}, {"max_cars": 3}, {"split": "val"})
    ]
    label = root / "training" / "instance" / "000000_10.png"
    with Image.open(label) as image:
        image.save(label, compress_level=0)
    assert len({plain, *others, KittiScenes(root=root).fingerprint}) == 6


def test_its_environment_takes_the_root_and_ignores_what_is_not_known(semantics, make_networks):
    root, written = semantics
    env = gym.make_vec("ACIS/KITTI-v0", num_envs=2, root=str(root), weights=make_networks((32, 64)))
    assert (env.threshold, env.scenes.preprocessing.name, env.scenes.max_instances) == (0.5, "squeeze", 16)
    env.reset(seed=0, options={"scene_index": 0})
    label_map = env.scene[0].label_map
    assert (label_map == -1).any()
    assert label_map.max() <= written["000000_10"].label_map.max()
    assert (env.step(env.action_space.sample())[1] >= 0).all()
