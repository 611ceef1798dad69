"""The trained row as a checkpoint of transformers, with its image processor."""

import json
from pathlib import Path

from pydantic import ValidationError
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from effiseg.base.errors import EffiSegError
from effiseg.deployment.card import Card, Unexported
from effiseg.models.segformer import CONFIG_FILE, LABELS_KEY, Segmenter, load_model, save_model

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
    model, card = open_folder(folder)
    if not isinstance(card, Card):
        raise EffiSegError(
            f"{folder}: a trained model that was not exported; name it as <row>-<seed>, or export it with "
            "`python -m effiseg export RUN`"
        )
    return model, card


def open_folder(folder: Path) -> tuple[Segmenter, Card | Unexported]:
    """Read what `write_checkpoint` wrote, or a model folder as the training left it.

    Raises:
        EffiSegError: a file is missing or damaged, or the folder does not say what the answers mean.
    """
    path = folder / CONFIG_FILE
    model = load_model(folder)
    content = json.loads(path.read_text(encoding="utf-8"))
    if CARD_KEY in content:
        return model, Card.checked(content[CARD_KEY], str(path))
    try:
        return model, Unexported.model_validate({"name": str(folder), **content[LABELS_KEY]})
    except (KeyError, TypeError, ValidationError):
        raise EffiSegError(
            f"{folder}: a trained model that was not exported; name it as <row>-<seed>, or export it with "
            "`python -m effiseg export RUN`"
        ) from None
