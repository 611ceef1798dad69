"""Label spaces: names, colours and trainIds of each data set.

The facts (ids, trainIds, colours) are those that the data sets' authors publish; the Cityscapes table is tested against
`cityscapesscripts`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effiseg.base.schema import IGNORE_INDEX

Colour = tuple[int, int, int]

# the made-up cities of the generated scenes, by which they are known wherever they lie; no city is in two splits
GENERATED_CITIES = {
    "train": ("aldermoor", "birkenhalde", "carrowfeld", "dornwick"),
    "val": ("eschenmark", "farnhollow"),
}


@dataclass(frozen=True)
class LabelSpace:
    """What the pixels of one data set's label files mean.

    Attributes:
        name: the data set's name.
        classes: evaluated class names, in trainId order.
        colours: one RGB colour per class.
        train_id_of: label file id -> trainId, `IGNORE_INDEX` for void; an id that is not a key is an error in the file.
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    train_id_of: dict[int, int]

    def lookup(self) -> NDArray[np.int16]:
        """Table of 256 entries, label id -> trainId; -1 where the id is not allowed."""
        table = np.full(256, -1, dtype=np.int16)
        for label_id, train_id in self.train_id_of.items():
            table[label_id] = train_id
        return table


# (class, its id in *_labelIds.png, colour), in trainId order
_CITYSCAPES = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
_CITYSCAPES_IDS = range(34)

_CAMVID = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign symbol", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)

CITYSCAPES = LabelSpace(
    name="cityscapes",
    classes=tuple(name for name, _, _ in _CITYSCAPES),
    colours=tuple(colour for _, _, colour in _CITYSCAPES),
    train_id_of=dict.fromkeys(_CITYSCAPES_IDS, IGNORE_INDEX)
    | {label_id: train_id for train_id, (_, label_id, _) in enumerate(_CITYSCAPES)},
)

CAMVID = LabelSpace(
    name="camvid",
    classes=tuple(name for name, _ in _CAMVID),
    colours=tuple(colour for _, colour in _CAMVID),
    train_id_of={train_id: train_id for train_id in range(len(_CAMVID))} | {len(_CAMVID): IGNORE_INDEX},
)

LABEL_SPACES = {"synthetic": CITYSCAPES, "cityscapes": CITYSCAPES, "camvid": CAMVID}  # by data.source

# 1 / ln(1.10 + share) over Cityscapes' training pixels, as printed with the published weighted cross-entropy
PAPER_WEIGHTS = (
    2.5959737, 6.741505, 3.5353868, 9.866315, 9.690922, 9.369371, 10.289124, 9.953209, 4.3098087, 9.490392,
    7.674411, 9.396925, 10.347794, 6.3928986, 10.226673, 10.241072, 10.28059, 10.396977, 10.05567,
)  # fmt: skip


def computed_weights(pixel_counts: Sequence[int]) -> list[float]:
    """1 / ln(1.10 + share) of each class (ENet, Paszke et al. 2016) from its training pixels, void left out."""
    counts = np.asarray(pixel_counts, dtype=np.float64)
    return (1 / np.log(1.10 + counts / counts.sum())).tolist()
