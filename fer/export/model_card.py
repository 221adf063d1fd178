"""The model card of the bundled network: every figure in it is taken from its eval.json.

The headings follow M. Mitchell et al., "Model Cards for Model Reporting", FAT* 2019 (arXiv:1810.03993).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer.escaping import code, markdown
from fer.evaluation import eval_json
from fer.evaluation.report import report_text

WIDTH = 118  # of a line
_BLOCK = re.compile(r"\n *(?=[-#>+*=|<~]|```|\d+[.)])")  # a line end before the beginning of a list, a heading, ...
FEWEST = 100  # faces of which a share is worth telling


def text(content: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """The card, in Markdown.

    Args:
      content: of the bundle's eval.json, measured on validation against FER-2013's labels.
      record: the run's config.json.
    """
    sections = {
        "What it is": _what(content, record),
        "What it is for": _paragraph(_FOR),
        "What it must not be used for": _list(_NOT_FOR),
        "Training data": _data(record),
        "Protocol": _protocol(content),
        "Figures": _figures(content),
        "Known biases and weaknesses": _weaknesses(content),
        "Licence": _paragraph(_LICENCE.format(others=_OTHERS if _others(record) else "")),
    }
    body = "\n\n".join(f"## {heading}\n\n{section}" for heading, section in sections.items())
    return f"# Model card: the bundled network, {markdown(content['model'])}\n\n{body}\n"


_FOR = (
    "Research, teaching and trying the programs out: `scripts/predict.py --workdir=bundled --input=photo.jpg` names "
    "the expressions that faces seem to show. It says which of seven words people would have chosen for a picture, not "
    'what a person feels: faces are no reliable readout of feelings (L. F. Barrett et al., "Emotional Expressions '
    'Reconsidered", Psychological Science in the Public Interest 20, 2019).'
)
_NOT_FOR = (
    "decisions about people: hiring, schooling, credit, insurance, policing, borders, health, access to anything;",
    "inferring emotions at work or in education, which the European Union prohibits but for medical or safety reasons "
    "(Regulation (EU) 2024/1689, article 5(1)(f));",
    "watching people who have not agreed to it, or drawing conclusions about a person from a face;",
    "children, medical diagnosis, lie detection, or any use in which a mistake does harm: it is often wrong.",
)
_LICENCE = (
    "The code is under the MIT licence. FER-2013's authors gave its images no licence; none of them is in this "
    "package, and the project claims no rights over them. These weights were computed from those images{others} and "
    "are offered for research and teaching on the terms of the code, as far as the project can grant them: whoever "
    "wants to use them otherwise has to settle that question first."
)
_OTHERS = ", with the help of other networks (docs/reproduce.md tells what these had learned from, and on what terms),"


def _what(content: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    member, trained = content["protocol"]["members"][0], record["config"]
    size = trained["model"]["image_size"]
    rows = {
        "weights, SHA-256": code(member["weights_sha256"]),
        "`config_sha256` of `config.json`": code(member["config_sha256"]),
        "step of the training": f"{member['checkpoint_step']:,}",
        "trained in": f"{trained['train']['precision']}, seed {trained['seed']}",
        "with": markdown(", ".join(f"{name} {version}" for name, version in record["versions"].items())),
    }
    said = _paragraph(
        f"A convolutional network, {code(content['model'])}{f' at {size}x{size}' if size else ''}, with "
        f"{content['parameters']:,} parameters: a grey face of 48x48 pixels goes in, seven logits come out, in the "
        f"order {', '.join(content['classes'])}. Its weights are stored in float16 and computed with in float32."
    )
    return "\n".join([said, "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _data(record: Mapping[str, Any]) -> str:
    data, trained = record["data"], record["config"]
    weights = trained["model"]["weights"]
    told = "docs/reproduce.md tells what these had learned from"
    start = "random weights" if weights == "none" else f"the weights {code(weights)} ({told})"
    return _paragraph(
        f"The {data['examples_per_split']['train']:,} faces of the train split of {code(data['name'])} (manifest "
        f"SHA-256 {code(data['manifest_sha256'])}), in FER-2013's form (I. J. Goodfellow et al., arXiv:1307.0414): "
        "pictures that an image search found under words for emotions, cut out by a face detector, and labelled with "
        f"one of seven classes. Training began from {start}, with the augmentation "
        f"{code(trained['augment']['policy'])}."
        f"{_votes(record)}{_teachers(record)}"
    )


def _votes(record: Mapping[str, Any]) -> str:
    """A sentence on FER+'s votes, if the targets came of them too."""
    targets = record["config"]["train"]["targets"]
    if targets == "fer":
        return ""
    return (
        f" Its targets were made of FER+'s votes too (E. Barsoum et al. 2016, arXiv:1608.01041; `targets={targets}` in "
        "`fer/config.py` says how)."
    )


def _teachers(record: Mapping[str, Any]) -> str:
    """A sentence on the networks that taught this one, if any did."""
    taught_by, train = record.get("teachers", []), record["config"]["train"]
    if not taught_by:
        return ""
    hashes = ", ".join(code(each["weights_sha256"]) for each in taught_by)
    began = ", ".join(code(each["began_with"]) for each in taught_by if each.get("began_with", "none") != "none")
    return (
        f" The label was {1 - train['teacher_share']:.0%} of what it was taught; the rest was what "
        f"{code(train['teacher'])} saw in the same picture (weights SHA-256 {hashes}"
        f"{f'; it had begun with the weights {began}' if began else ''})."
    )


def _others(record: Mapping[str, Any]) -> bool:
    """Whether the network began with weights, or was taught by a network, that came from elsewhere."""
    return record["config"]["model"]["weights"] != "none" or bool(record.get("teachers"))


def _protocol(content: Mapping[str, Any]) -> str:
    told = content["protocol"]
    left_out = f" {told['left_out']:,} faces without a label are left out." if told["left_out"] else ""
    flattered = content["split"] == told["selected_on"] and eval_json.is_training_data(content)
    chosen = ", so the figures are a little too good" if flattered else ""
    return _paragraph(
        f"Measured with these float16 weights on the {content['examples']:,} faces of the split {content['split']} of "
        f"{code(content['data']['name'])}, one look at each.{left_out} The split {told['selected_on']} chose the "
        f"training step{chosen}. The test split had no part in anything here. Every figure below is taken from "
        "`eval.json` beside this card, which tells the versions that computed it."
    )


def _figures(content: Mapping[str, Any]) -> str:
    lines = ["| figure | value | 95 % interval |", "|---|---|---|"]
    lines += [f"| {name} | {value} | {interval} |" for name, value, interval, _ in report_text.figures(content)]
    lines += ["", "| class | faces | precision | recall | F1 |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row[:5])} |" for row in report_text.classes(content)]
    return "\n".join(lines)


def _weaknesses(content: Mapping[str, Any]) -> str:
    items = [
        _of_classes(content),
        "Who the people in the pictures are, their age, sex, skin, or where they live, is recorded nowhere. So how it "
        "does for any group is unknown; it must be expected to differ, and to be worst for those whom an image search "
        "of 2013 showed least.",
        "What a search for a word finds shows it strongly, and some of it is drawn: it has seen few faint, everyday "
        "expressions.",
        "The labels are disputed: people agree with them in 65 ± 5 % of the cases (Goodfellow et al. 2013).",
    ]
    seen, agreed, scaled = (content[name] for name in ("without_training_images", "by_agreement", "calibration"))
    if seen and seen["left_out"]:
        data = "its training data" if eval_json.is_training_data(content) else "the train split beside them"
        items.append(
            f"{seen['left_out']:,} of the faces that it was measured on are in {data} too; without them its "
            f"accuracy is {100 * seen['accuracy']:.1f} %."
        )
    counted = [entry for entry in agreed or [] if entry["examples"] >= FEWEST]
    if len(counted) > 1:
        low, high = counted[0], counted[-1]
        items.append(
            f"Where {high['votes']} of FER+'s ten people agreed, it is right about {100 * high['accuracy']:.1f} % of "
            f"the faces; where {low['votes']} did, about {100 * low['accuracy']:.1f} %."
        )
    if scaled:
        mood = "confident" if scaled["temperature"] > 1 else "modest"
        items.append(f"Its probabilities are too {mood} (temperature {scaled['temperature']:.2f}).")
    return _list(items)


def _of_classes(content: Mapping[str, Any]) -> str:
    """Which class it knows best and worst, and what it takes for what most often."""
    recall = {name: found["recall"] for name, found in content["per_class"].items() if found["support"]}
    best, worst = max(recall, key=recall.get), min(recall, key=recall.get)
    matrix = np.array(content["confusion_matrix"])
    mistakes = matrix - np.diag(np.diag(matrix))
    true, taken = np.unravel_index(mistakes.argmax(), mistakes.shape)
    return (
        f"It recognises {100 * recall[best]:.1f} % of the faces labelled {best} and {100 * recall[worst]:.1f} % of "
        f"those labelled {worst}. Its most frequent mistake is {content['classes'][true]} taken for "
        f"{content['classes'][taken]}, {mistakes.max():,} of {matrix[true].sum():,} faces."
    )


def _list(items: Sequence[str]) -> str:
    return "\n".join(_paragraph(item, "- ", "  ") for item in items)


def _paragraph(said: str, first: str = "", later: str = "") -> str:
    """Wraps a paragraph; no line but the first begins with characters that would begin another block of Markdown."""
    text = textwrap.fill(
        said, WIDTH, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )
    return _BLOCK.sub(" ", text)
