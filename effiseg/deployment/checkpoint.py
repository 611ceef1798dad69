"""The trained row as a checkpoint of transformers, with its image processor."""

import json
from pathlib import Path

from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from effiseg.base.errors import EffiSegError
from effiseg.deployment.card import Card
from effiseg.models.segformer import CONFIG_FILE, Segmenter, load_model, save_model

CARD_KEY = "effiseg_card"  # in config.json


def write_checkpoint(model: Segmenter, folder: Path, card: Card) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json.

    Plain transformers opens a row of LayerNorms (`from_pretrained`, `pipeline("image-segmentation")`); `load_model` of
    `effiseg.models.segformer` opens every row.
    """
    save_model(model, folder)
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    config[CARD_KEY] = card.model_dump(mode="json")
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    height, width = card.size
    SegformerImageProcessorPil(
        do_resize=True,
        size={"height": height, "width": width},
        do_reduce_labels=False,
        image_mean=list(card.mean),
        image_std=list(card.std),
    ).save_pretrained(folder)


def open_checkpoint(folder: Path) -> tuple[Segmenter, Card]:
    """Read what `write_checkpoint` wrote: safetensors and JSON, no code.

    Raises:
        EffiSegError: a file is missing or damaged, or the folder is none that EffiSeg exported.
    """
    path = folder / CONFIG_FILE
    model = load_model(folder)
    fields = json.loads(path.read_text(encoding="utf-8")).get(CARD_KEY)
    if fields is None:
        raise EffiSegError(
            f"{folder}: a trained model that was not exported; name it as <row>-<seed>, or export it with "
            "`python -m effiseg export RUN`"
        )
    return model, Card.checked(fields, str(path))
