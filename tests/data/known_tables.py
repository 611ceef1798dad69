"""What is known of the shipped tables from elsewhere: counts of classes, and names of real files."""

from typing import NamedTuple

from cityscapesscripts.helpers.labels import labels as published

VOID = 255
EVALUATED = sorted((label for label in published if label.trainId not in (-1, VOID)), key=lambda label: label.trainId)
IGNORED = {label.id for label in published if label.ignoreInEval and label.id >= 0}


class Known(NamedTuple):
    """Of a table: its number of classes, a pair of real files, whose name and group they tell, and its void."""

    count: int
    split: str
    image: str
    label: str
    name: str
    group: tuple[str, int]
    void_ids: tuple[int, ...] = (VOID,)


CITYSCAPES = Known(
    19,
    "val",
    "leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png",
    "gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png",
    "frankfurt/frankfurt_000000_000294",
    ("frankfurt/frankfurt_000000", 294),
    tuple(sorted(IGNORED)),
)


CAMVID_COLOURS = Known(
    31,
    "train",
    "train/0001TP_006690.png",
    "train_labels/0001TP_006690_L.png",
    "0001TP_006690",
    ("0001TP", 6690),
    (),
)


IDD = Known(
    26,
    "train",
    "leftImg8bit/train/0/005506_leftImg8bit.png",
    "gtFine/train/0/005506_gtFine_labellevel3Ids.png",
    "0/005506",
    ("0", 5506),
)


KNOWN = {
    "acdc": Known(
        19,
        "train",
        "rgb_anon/fog/train/GOPR0475/GOPR0475_frame_000041_rgb_anon.png",
        "gt/fog/train/GOPR0475/GOPR0475_frame_000041_gt_labelTrainIds.png",
        "GOPR0475/GOPR0475_frame_000041",
        ("GOPR0475/GOPR0475", 41),
    ),
    "ade20k": Known(
        150,
        "val",
        "images/validation/ADE_val_00000001.jpg",
        "annotations/validation/ADE_val_00000001.png",
        "ADE_val_00000001",
        ("ADE_val_00000001", 0),
        (0,),
    ),
    "bdd100k": Known(
        19,
        "val",
        "images/10k/val/7d06fefd-f7be05a6.jpg",
        "labels/sem_seg/masks/val/7d06fefd-f7be05a6.png",
        "7d06fefd-f7be05a6",
        ("7d06fefd-f7be05a6", 0),
    ),
    "camvid": Known(
        11,
        "train",
        "train/0016E5_07959.png",
        "trainannot/0016E5_07959.png",
        "0016E5_07959",
        ("0016E5", 7959),
        (11,),
    ),
    "camvid-11": CAMVID_COLOURS._replace(count=11),
    "camvid-32": CAMVID_COLOURS,
    "cityscapes": CITYSCAPES,
    "cityscapes-categories": CITYSCAPES._replace(count=7),
    "idd-26": IDD,
    "idd-level1": IDD._replace(count=7, label="gtFine/train/0/005506_gtFine_labellevel1Ids.png"),
    "idd-lite": IDD._replace(
        count=7,
        image="leftImg8bit/train/0/024541_image.jpg",
        label="gtFine/train/0/024541_label.png",
        name="0/024541",
        group=("0", 24541),
    ),
    "kitti": Known(
        19,
        "train",
        "training/image_2/000052_10.png",
        "training/semantic/000052_10.png",
        "000052_10",
        ("000052_10", 0),
        tuple(sorted(IGNORED)),
    ),
    "synthetic": CITYSCAPES._replace(
        split="train",
        image="leftImg8bit/train/aldermoor/aldermoor_000000_000003_leftImg8bit.png",
        label="gtFine/train/aldermoor/aldermoor_000000_000003_gtFine_labelIds.png",
        name="aldermoor/aldermoor_000000_000003",
        group=("aldermoor/aldermoor_000000_000003", 0),
    ),
    "vistas": Known(
        65,
        "val",
        "validation/images/0-g5x1x9t7t6_lmXUPFazw.jpg",
        "validation/labels/0-g5x1x9t7t6_lmXUPFazw.png",
        "0-g5x1x9t7t6_lmXUPFazw",
        ("0-g5x1x9t7t6_lmXUPFazw", 0),
        (65,),
    ),
    "voc2012": Known(
        21,
        "train",
        "JPEGImages/2007_000032.jpg",
        "SegmentationClass/2007_000032.png",
        "2007_000032",
        ("2007_000032", 0),
    ),
}
