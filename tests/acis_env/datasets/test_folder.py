import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from acis_env.datasets.folder import FolderScenes
from acis_env.datasets.scene import IGNORED
from acis_env.pictures import Reading

NUCLEI = Path(__file__).parents[4] / "shared" / "data" / "bbbc038" / "val"


def two_squares(height=12, width=16, labels=(1, 2)):
    """Label map with a 4 x 4 instance at the left and a 6 x 6 one at the right."""
    label_map = np.zeros((height, width), np.uint8)
    label_map[1:5, 1:5] = labels[0]
    label_map[3:9, 9:15] = labels[1]
    return label_map


def write_pair(folder, scene_id, label_map=None, image=None):
    label_map = two_squares() if label_map is None else label_map
    if image is None:
        image = np.random.default_rng(0).integers(0, 256, (*label_map.shape, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / f"{scene_id}_rgb.png")
    Image.fromarray(label_map).save(folder / f"{scene_id}_label.png")
    return image


def write_palette_labels(path, label_map):
    picture = Image.fromarray(label_map, mode="P")
    # Entries 1 and 2 look the same, as in a careless export: only the index tells them apart.
    picture.putpalette([0, 0, 0, 200, 30, 30, 200, 30, 30, 0, 250, 0])
    picture.save(path)


def scattered(seed, size=64, instances=12):
    """Label map of non-overlapping 6 x 6 instances."""
    label_map = np.zeros((size, size), np.uint8)
    cells = np.random.default_rng(seed).choice((size // 8) ** 2, instances, replace=False)
    for label, cell in enumerate(cells, start=1):
        y, x = divmod(int(cell), size // 8)
        label_map[8 * y + 1 : 8 * y + 7, 8 * x + 1 : 8 * x + 7] = label
    return label_map


def test_a_cvppp_folder_yields_its_pairs_sorted_by_id_and_nothing_else(tmp_path):
    image = write_pair(tmp_path, "plant010")
    write_pair(tmp_path, "plant002")
    Image.fromarray(two_squares()).save(tmp_path / "plant002_fg.png")
    Image.fromarray(two_squares()).save(tmp_path / "plant002_centers.png")
    scenes = FolderScenes(tmp_path)
    assert [scene.name for scene in scenes] == ["plant002", "plant010"]
    assert len(scenes) == 2
    assert scenes.max_instances == 2
    np.testing.assert_array_equal(scenes[1].image, image.transpose(2, 0, 1))
    np.testing.assert_array_equal(scenes[1].label_map, two_squares())


def test_the_label_of_a_palette_png_is_its_index_even_where_colours_repeat(tmp_path):
    write_pair(tmp_path, "plant001")
    write_palette_labels(tmp_path / "plant001_label.png", two_squares())
    np.testing.assert_array_equal(FolderScenes(tmp_path)[0].label_map, two_squares())


def test_labels_above_255_in_a_16_bit_png_stay_apart(tmp_path):
    write_pair(
        tmp_path, "a", two_squares(labels=(1, 1)).astype(np.uint16) * 257 + (two_squares() == 2) * np.uint16(256)
    )
    np.testing.assert_array_equal(FolderScenes(tmp_path)[0].label_map, two_squares())


def test_gaps_between_labels_are_closed_in_their_order(tmp_path):
    write_pair(tmp_path, "a", two_squares(labels=(200, 7)))
    np.testing.assert_array_equal(FolderScenes(tmp_path)[0].label_map, two_squares(labels=(2, 1)))


@pytest.mark.parametrize("channels", [0, 4])
def test_grey_and_transparent_images_become_rgb(tmp_path, channels):
    shape = (12, 16, channels) if channels else (12, 16)
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    write_pair(tmp_path, "a", image=image)
    expected = image[..., :3].transpose(2, 0, 1) if channels else np.stack([image] * 3)
    np.testing.assert_array_equal(FolderScenes(tmp_path)[0].image, expected)


def test_a_centre_crop_cuts_image_and_labels_alike_and_drops_what_lies_outside(tmp_path):
    image = write_pair(tmp_path, "a")
    scene = FolderScenes(tmp_path, crop="centre", crop_size=6)[0]
    assert scene.name == "a@3,5,6"
    np.testing.assert_array_equal(scene.image, image[3:9, 5:11].transpose(2, 0, 1))
    np.testing.assert_array_equal(scene.label_map, two_squares()[3:9, 5:11] == 2)


def test_an_instance_too_small_in_the_crop_becomes_background_and_does_not_count(tmp_path):
    write_pair(tmp_path, "a")
    scenes = FolderScenes(tmp_path, min_area=17)
    assert scenes.max_instances == 1
    np.testing.assert_array_equal(scenes[0].label_map, two_squares() == 2)


def test_scale_halves_both_sides_before_the_crop_as_for_cvppp(tmp_path):
    labels = np.zeros((500, 530), np.uint8)
    labels[200:300, 200:300] = 1
    image = np.where(labels[..., None] > 0, 250, 10).astype(np.uint8).repeat(3, axis=2)
    write_pair(tmp_path, "plant001", labels, image)
    assert FolderScenes(tmp_path, scale=0.5)[0].label_map.shape == (250, 265)
    scene = FolderScenes(tmp_path, scale=0.5, crop="centre", crop_size=224)[0]
    assert scene.image.shape == (3, 224, 224)
    np.testing.assert_array_equal(scene.image[0] == 250, scene.label_map == 1)


def test_random_crops_are_windows_of_their_image_within_the_limits(tmp_path):
    labels = scattered(seed=0)
    image = write_pair(tmp_path, "a", labels)
    scenes = FolderScenes(
        tmp_path, crop="random", crop_size=(20, 30), crops_per_image=8, min_instances=2, max_instances=4, min_area=9
    )
    assert len(scenes) == 8
    assert len({scene.name for scene in scenes}) == 8
    for scene in scenes:
        y, x, side = map(int, scene.name.split("@")[1].split(","))
        assert 20 <= side <= 30
        np.testing.assert_array_equal(scene.image, image[y : y + side, x : x + side].transpose(2, 0, 1))
        areas = np.bincount(labels[y : y + side, x : x + side].ravel())[1:]
        assert scene.num_instances == (areas >= 9).sum()
        assert 2 <= scene.num_instances <= 4
    assert scenes.max_instances == max(scene.num_instances for scene in scenes)


def test_random_crops_depend_on_the_seed_and_not_on_the_other_images(tmp_path):
    for number in range(3):
        write_pair(tmp_path, f"p{number}", scattered(seed=number))

    def crops_of_p2(**options):
        scenes = FolderScenes(tmp_path, crop="random", crop_size=20, crops_per_image=4, **options)
        return [scene.name for scene in scenes if scene.name.startswith("p2")]

    assert crops_of_p2() == crops_of_p2(ids=["p2"])
    assert crops_of_p2() != crops_of_p2(seed=1)


def test_a_crop_as_large_as_its_image_is_taken_once(tmp_path):
    write_pair(tmp_path, "a", scattered(seed=0))
    assert len(FolderScenes(tmp_path, crop="random", crop_size=(64, 500), crops_per_image=5)) == 1


def test_images_outside_the_instance_limits_are_left_out(tmp_path):
    write_pair(tmp_path, "few")
    write_pair(tmp_path, "many", scattered(seed=0))
    assert [scene.name for scene in FolderScenes(tmp_path, max_instances=11)] == ["few"]
    assert [scene.name for scene in FolderScenes(tmp_path, min_instances=3)] == ["many"]


def test_ids_select_a_subset_and_hide_incomplete_pairs(tmp_path):
    write_pair(tmp_path, "a")
    write_pair(tmp_path, "b")
    (tmp_path / "test_rgb.png").write_bytes(b"")
    assert [scene.name for scene in FolderScenes(tmp_path, ids=["b"])] == ["b"]
    with pytest.raises(FileNotFoundError, match=r"c has neither image nor label.*c_label\.png"):
        FolderScenes(tmp_path, ids=["a", "c"])
    with pytest.raises(ValueError, match="ids must name at least one image"):
        FolderScenes(tmp_path, ids=[])


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        FolderScenes(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="has no pair"):
        FolderScenes(tmp_path)


@pytest.mark.parametrize(("lost", "what"), [("a_label.png", "no label"), ("a_rgb.png", "no image")])
def test_half_a_pair_is_named(tmp_path, lost, what):
    write_pair(tmp_path, "a")
    write_pair(tmp_path, "b")
    (tmp_path / lost).unlink()
    with pytest.raises(FileNotFoundError, match=f"a has {what}.*{lost}"):
        FolderScenes(tmp_path)


def test_an_image_without_a_label_file_is_a_scene_where_labels_are_optional(tmp_path):
    image = write_pair(tmp_path, "a")
    write_pair(tmp_path, "b", scattered(seed=0))
    (tmp_path / "a_label.png").unlink()
    scenes = FolderScenes(tmp_path, labels="optional", min_instances=3)
    assert [scene.name for scene in scenes] == ["a", "b"]
    assert scenes[0].label_map is None
    np.testing.assert_array_equal(scenes[0].image, image.transpose(2, 0, 1))
    assert scenes[1].num_instances == scenes.max_instances == 12


def test_a_folder_of_images_alone_is_cut_and_scaled_as_one_with_labels(tmp_path):
    write_pair(tmp_path, "a", scattered(seed=0))
    labelled = FolderScenes(tmp_path, scale=0.5, crop="centre", crop_size=20)[0]
    (tmp_path / "a_label.png").unlink()
    scenes = FolderScenes(tmp_path, labels="optional", scale=0.5, crop="centre", crop_size=20)
    assert scenes[0].name == labelled.name
    np.testing.assert_array_equal(scenes[0].image, labelled.image)
    assert scenes.max_instances == 0
    assert len(FolderScenes(tmp_path, labels="optional", crop="random", crop_size=20, crops_per_image=4)) == 4


def test_a_label_without_its_image_is_named_even_where_labels_are_optional(tmp_path):
    write_pair(tmp_path, "a")
    (tmp_path / "a_rgb.png").unlink()
    with pytest.raises(FileNotFoundError, match="a has no image"):
        FolderScenes(tmp_path, labels="optional")


def test_what_needs_the_labels_of_an_unlabelled_scene_names_it(tmp_path):
    write_pair(tmp_path, "a")
    (tmp_path / "a_label.png").unlink()
    scene = FolderScenes(tmp_path, labels="optional")[0]
    for asked in (scene.require_label_map, lambda: scene.num_instances):
        with pytest.raises(ValueError, match="a: expected a scene with a label map, which evaluation and training"):
            asked()


def test_image_and_label_map_of_different_sizes_are_refused_with_both_sizes(tmp_path):
    write_pair(tmp_path, "a", image=np.zeros((12, 17, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a_rgb\.png is 12x17 but its label map is 12x16"):
        FolderScenes(tmp_path)


def test_a_label_map_without_instances_is_refused_unless_asked_for(tmp_path):
    write_pair(tmp_path, "a", np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"a_label\.png: every pixel is background.*min_instances=0"):
        FolderScenes(tmp_path)
    scenes = FolderScenes(tmp_path, min_instances=0)
    assert scenes.max_instances == scenes[0].num_instances == 0


def test_labels_stored_as_colours_are_refused_with_what_was_found(tmp_path):
    write_pair(tmp_path, "a")
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(tmp_path / "a_label.png")
    with pytest.raises(ValueError, match=r"a_label\.png must be one label per pixel.*got RGB$"):
        FolderScenes(tmp_path)


def test_a_16_bit_image_is_shown_by_the_range_of_its_type_or_by_percentiles_of_its_values(tmp_path):
    write_pair(tmp_path, "a", image=np.linspace(0, 4095, 12 * 16).reshape(12, 16).astype(np.uint16))
    assert FolderScenes(tmp_path)[0].image.max() == 16
    stretched = FolderScenes(tmp_path, percentiles=[0, 100])[0].image
    assert (stretched.min(), stretched.max()) == (0, 255)


def test_labels_to_ignore_are_no_instances_and_their_pixels_are_ignored(tmp_path):
    write_pair(tmp_path, "a", np.where(two_squares() == 2, 255, two_squares()).astype(np.uint8))
    assert FolderScenes(tmp_path).max_instances == 2
    for ignore in (255, [255]):
        scenes = FolderScenes(tmp_path, ignore=ignore)
        assert scenes.max_instances == 1
        np.testing.assert_array_equal(
            scenes[0].label_map, np.where(two_squares() == 2, IGNORED, two_squares().astype(int))
        )


def test_hidden_files_are_no_scenes(tmp_path):
    write_pair(tmp_path, "a")
    for name in ("._a_rgb.png", "._a_label.png", ".b_rgb.png"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    assert [scene.name for scene in FolderScenes(tmp_path)] == ["a"]


def test_suffixes_are_the_same_in_upper_case(tmp_path):
    write_pair(tmp_path, "A")
    (tmp_path / "A_rgb.png").rename(tmp_path / "A_RGB.PNG")
    (tmp_path / "A_label.png").rename(tmp_path / "A_label.Png")
    assert [scene.name for scene in FolderScenes(tmp_path)] == ["A"]
    (tmp_path / "A_label.PNG").write_bytes((tmp_path / "A_label.Png").read_bytes())
    if len(list(tmp_path.iterdir())) == 3:  # not where these are one file
        with pytest.raises(ValueError, match="'A' must have one label, got"):
            FolderScenes(tmp_path)


def test_files_of_other_formats_that_look_like_a_pair_are_not_left_out_silently(tmp_path, caplog):
    write_pair(tmp_path, "a")
    for name in ("b_rgb.jpg", "b_label.tif"):
        (tmp_path / name).write_bytes(b"")
    assert len(FolderScenes(tmp_path)) == 1
    assert "2 files are no PNG and left out, such as b_label.tif" in caplog.text


def test_a_folder_is_read_again_only_when_a_file_or_an_option_has_changed(tmp_path, monkeypatch):
    write_pair(tmp_path, "a")
    read = []
    label_map = Reading.label_map
    monkeypatch.setattr(Reading, "label_map", lambda self, *args: read.append(args) or label_map(self, *args))
    first, second = FolderScenes(tmp_path), FolderScenes(tmp_path)
    assert (len(read), len(first), second.max_instances) == (1, 1, 2)
    FolderScenes(tmp_path, min_area=17)
    assert len(read) == 2
    write_pair(tmp_path, "b", scattered(seed=0))
    assert FolderScenes(tmp_path).max_instances == 12


@pytest.mark.parametrize("suffix", ["label", "rgb"])
def test_a_file_that_is_no_png_is_named_at_construction(tmp_path, suffix):
    write_pair(tmp_path, "a")
    (tmp_path / f"a_{suffix}.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=rf"a_{suffix}\.png cannot be opened"):
        FolderScenes(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
@pytest.mark.parametrize("suffix", ["label", "rgb"])
def test_a_damaged_png_is_named_when_it_is_decoded(tmp_path, suffix, damage):
    write_pair(tmp_path, "a", scattered(seed=0))
    path = tmp_path / f"a_{suffix}.png"
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] if damage == "truncated" else data[:middle] + b"\xff" * (len(data) - middle))
    with pytest.raises(ValueError, match=rf"a_{suffix}\.png cannot be decoded"):  # noqa: PT012
        scenes = FolderScenes(tmp_path)
        assert suffix == "rgb", "label maps are read at construction"
        scenes[0]


def test_a_crop_that_does_not_fit_names_the_image_and_its_size(tmp_path):
    write_pair(tmp_path, "a")
    for crop in ("centre", "random"):
        with pytest.raises(ValueError, match="a: a crop of 13 px does not fit into the picture of 12x16"):
            FolderScenes(tmp_path, crop=crop, crop_size=13)


def test_limits_that_leave_nothing_out_report_the_counts_seen(tmp_path):
    write_pair(tmp_path, "a")
    write_pair(tmp_path, "b", scattered(seed=0))
    with pytest.raises(ValueError, match=r"no scene has 3 to 11 instances.*seen were 2 to 12"):
        FolderScenes(tmp_path, min_instances=3, max_instances=11)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "corner", "crop_size": 4}, "crop must be"),
        ({"crop": "centre"}, "go together"),
        ({"crop_size": 4}, "go together"),
        ({"crop": "centre", "crop_size": (4, 6)}, "one side"),
        ({"crop": "random", "crop_size": (6, 4)}, "smallest, largest"),
        ({"crop": "random", "crop_size": 0}, "smallest, largest"),
        ({"crops_per_image": 2}, "crops_per_image"),
        ({"crop": "random", "crop_size": 4, "crops_per_image": 0}, "crops_per_image"),
        ({"scale": 0.0}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"min_instances": -1}, "min_instances"),
        ({"min_instances": 3, "max_instances": 2}, "max_instances"),
        ({"crop": "random", "crop_size": 64.5}, r"smallest, largest\) of them, got 64\.5"),
        ({"crop": "random", "crop_size": [64, 96, 128]}, r"smallest, largest\) of them, got \[64, 96, 128\]"),
        ({"min_area": 0}, "min_area"),
        ({"seed": -1}, "seed must be an int from 0 on, got -1"),
        ({"labels": "some"}, "labels"),
        ({"percentiles": [99, 1]}, "percentiles"),
        ({"page": -1}, "page"),
    ],
)
def test_an_option_out_of_range_is_refused_before_any_file_is_read(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        FolderScenes(tmp_path / "nowhere", **options)


@pytest.mark.skipif(not NUCLEI.is_dir(), reason="the nuclei of BBBC038 are not beside the repository")
def test_every_crop_of_real_nuclei_has_as_many_instances_as_asked_for():
    scenes = FolderScenes(NUCLEI, crop="random", crop_size=(96, 160), crops_per_image=2, max_instances=16, min_area=20)
    assert len(scenes) > 52
    counts = [scenes[index].num_instances for index in range(0, len(scenes), 5)]
    assert min(counts) >= 1
    assert max(counts) <= scenes.max_instances <= 16


def test_a_name_that_is_not_utf_8_is_a_scene_like_any_other(tmp_path):
    write_pair(tmp_path, "a")
    for suffix in ("rgb", "label"):
        (tmp_path / f"a_{suffix}.png").rename(tmp_path / os.fsdecode(b"\xfc_%s.png" % suffix.encode()))
    options = {"crop": "random", "crop_size": 4}
    assert [len(FolderScenes(tmp_path, **chosen)) for chosen in ({}, options)] == [1, 1]
