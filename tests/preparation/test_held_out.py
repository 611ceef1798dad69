"""Training samples held out for tuning."""

import numpy as np
import pytest

from effiseg.data.prepared import Prepared


def test_the_samples_that_begin_with_a_prefix_validate_and_the_val_split_is_not_read(raw, prepared):
    for name in raw.val:
        raw.image("val", name).write_bytes(b"")  # would be refused if it were read
    data = prepared(held_out=["aachen/"])
    assert (data.train.names, data.val.names) == (("ulm/u_0",), ("aachen/a_0", "aachen/a_1"))
    assert data.val.labels.shape == (2, *raw.size)  # at full resolution, as validation labels are
    assert data.train.labels.shape == (1, 8, 16)


def test_class_weights_come_from_what_is_left_to_train_on(raw, prepared):
    for name in raw.train:
        raw.write_label("train", name, np.full(raw.size, 7 if name.startswith("ulm") else 23, np.uint8))
    counts = prepared(held_out=["aachen/"]).pixel_counts
    assert counts["train"][0] == raw.size[0] * raw.size[1]
    assert sum(counts["train"][1:]) == 0


def test_held_out_data_have_another_digest_and_none_held_out_is_as_before(prepared):
    whole: Prepared = prepared()
    assert prepared(held_out=[]).digest == whole.digest
    assert prepared(held_out=["ulm/", "aachen/a_1"]).digest != whole.digest
    assert prepared(held_out=["ulm/", "aachen/a_1"]).train.names == ("aachen/a_0",)


@pytest.mark.parametrize(
    ("prefixes", "message"),
    [
        (["aachen/", "bonn"], "data.held_out: no training sample begins with 'bonn'; the first ones are aachen/a_0"),
        (["aachen/", "ulm"], "data.held_out: all 3 training samples begin with aachen/, ulm"),
    ],
)
def test_a_prefix_that_holds_out_nothing_or_everything_is_refused(refused, prefixes, message):
    assert message in refused(held_out=prefixes)
