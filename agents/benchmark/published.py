"""Published figures, for the sets of scenes whose tables they belong in.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, Tables 1, 3 and 4, and what was published since.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A published table."""

    title: str
    """Scenes and protocol of its figures."""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


_CVPPP_VAL = Published(
    "CVPPP A1, 25 validation scenes of a split that is not public (Araslanov et al. 2019, Table 1)",
    ("", "SBD", "|DiC|"),
    (
        ("BL", "0.800", "1.08"),
        ("BL-Trunc", "0.794", "1.32"),
        ("AC-Dice", "0.805", "0.88"),
        ("AC-Dice-NoKL", "0.754", "1.36"),
        ("AC-Dice-NoSP", "0.613", "1.52"),
    ),
)
_CVPPP_TEST = Published(
    "CVPPP A1, 33 test scenes, by the challenge's server (Araslanov et al. 2019, Table 3, and later papers)",
    ("", "SBD", "|DiC|", "remarks"),
    (
        ("RIS", "0.666", "1.1", ""),
        ("MSU", "0.667", "2.3", ""),
        ("Nottingham", "0.683", "3.8", ""),
        ("IPK", "0.744", "2.6", ""),
        ("DLoss (2017)", "0.842", "1.0", "official foreground"),
        ("E2E (CVPR 2017)", "0.849", "0.8", "recurrent, boxes"),
        ("AC-Dice (CVPR 2019)", "0.791", "1.12", "recurrent, no boxes"),
        ("Mask2Former R50 (WACV 2025)", "0.895", "0.67", "pre-trained on COCO, 512 px"),
        ("GMT (WACV 2025)", "0.901", "0.48", "pre-trained on COCO, 512 px"),
        ("SAM 2 without prompts", "0.605", "4.56", "on the training scenes of A1"),
    ),
)
_KITTI_HEADER = ("", "MWCov", "MUCov", "AvgFP", "AvgFN")
_KITTI_VAL = Published(
    "KITTI cars, 144 validation scenes (Araslanov et al. 2019, Table 4); AvgFP and AvgFN per image",
    _KITTI_HEADER,
    (
        ("E2E, one iteration", "0.641", "0.548", "0.200", "0.375"),
        ("E2E, three iterations", "0.713", "0.634", "0.417", "0.308"),
        ("E2E, five iterations", "0.751", "0.646", "0.375", "0.283"),
        ("BL-Trunc", "0.704", "0.558", "0.313", "0.339"),
        ("AC-IoU", "0.719", "0.595", "0.262", "0.253"),
    ),
)
_KITTI_TEST = Published(
    "KITTI cars, 120 test scenes (Araslanov et al. 2019, Table 4); AvgFP and AvgFN per image",
    _KITTI_HEADER,
    (
        ("DepthOrder", "0.709", "0.522", "0.597", "0.736"),
        ("DenseCRF", "0.741", "0.552", "0.417", "0.833"),
        ("AngleFCN+D", "0.797", "0.758", "0.201", "0.159"),
        ("E2E", "0.800", "0.669", "0.764", "0.201"),
        ("BL-Trunc", "0.722", "0.507", "0.393", "0.432"),
        ("AC-IoU", "0.756", "0.573", "0.338", "0.309"),
    ),
)
PUBLISHED = {"cvppp": (_CVPPP_VAL, _CVPPP_TEST), "kitti": (_KITTI_VAL, _KITTI_TEST)}
"""Published tables by data set."""
