"""Writes the model card of the bundled network; every figure in it comes from its eval.json.

The sections follow M. Mitchell et al., "Model Cards for Model Reporting", FAT* 2019 (arXiv:1810.03993).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer import run_dir
from fer.config import Experiment
from fer.escaping import code_span, escape_markdown
from fer.evaluation import eval_json
from fer.evaluation.report import report_content
from fer.labels import CLASSES
from fer.run_dir import RunConfig

WIDTH = 118  # characters of a line
MIN_EXAMPLES = 100  # below which the accuracy of a group is not reported
_BLOCK = re.compile(r"\n *(?=[-#>+*=|<~]|```|\d+[.)])")  # a line end before the beginning of a list, a heading, ...

_INTENDED_USE = (
    "Research, teaching and trials: `scripts/predict.py --workdir=bundled --input=photo.jpg` classifies the facial "
    "expressions in a photo. The network predicts which of {classes} words annotators would choose for a picture, not "
    'what a person feels: facial expressions are no reliable measure of emotions (L. F. Barrett et al., "Emotional '
    'Expressions Reconsidered", Psychological Science in the Public Interest 20, 2019).'
)
_FER2013 = (
    "in the format of FER-2013 (I. J. Goodfellow et al., arXiv:1307.0414). FER-2013 holds results of an image search "
    "for emotion words, cropped by a face detector and labelled with one of seven classes."
)
_OUT_OF_SCOPE = (
    "Decisions about people: hiring, education, credit, insurance, policing, borders, health, access to services.",
    "Emotion inference at work or in education, which the European Union prohibits except for medical or safety "
    "reasons (Regulation (EU) 2024/1689, article 5(1)(f)).",
    "Surveillance without consent, and conclusions about a person from a face.",
    "Children, medical diagnosis, lie detection, and any use in which an error does harm: the network is often wrong.",
)
_LICENSE = (
    "The code is under the MIT license. The authors of FER-2013 published its images without a license; none of them "
    "is in this package, and the project claims no rights to them. These weights were trained on those images{others} "
    "and are offered for research and teaching on the terms of the code, as far as the project can grant them. Any "
    "other use requires that its user settle this question first."
)
_LICENSE_OF_OWN_DATA = (
    "The code is under the MIT license. These weights were trained on images{others} whose authors decide on their "
    "use: check their terms before you use or publish the weights."
)
_OTHERS = ", and indirectly on the data of other networks (sources and terms: docs/reproduce.md),"


def build_card(content: Mapping[str, Any], config: RunConfig) -> str:
    """Builds the model card in Markdown.

    Args:
      content: of the bundle's eval.json, measured on validation.
      config: the run's config.json.
    """
    license_text = _LICENSE if config.classes == CLASSES else _LICENSE_OF_OWN_DATA
    sections = {
        "Model details": _model_details(content, config),
        "Intended use": _paragraph(_INTENDED_USE.format(classes=report_content.count_word(config.classes))),
        "Out-of-scope use": _list(_OUT_OF_SCOPE),
        "Training data": _training_data(config),
        "Evaluation": _evaluation(content),
        "Metrics": _metrics(content),
        "Limitations and biases": _limitations(content),
        "License": _paragraph(license_text.format(others=_OTHERS if _uses_other_networks(config) else "")),
    }
    body = "\n\n".join(f"## {heading}\n\n{section}" for heading, section in sections.items())
    return f"# Model card: bundled network {escape_markdown(content['model'])}\n\n{body}\n"


def _model_details(content: Mapping[str, Any], config: RunConfig) -> str:
    member, experiment = content["protocol"]["members"][0], config.experiment
    size = experiment.model.image_size
    rows = {
        "weights SHA-256": code_span(member["weights_sha256"]),
        "`config_sha256` of `config.json`": code_span(member["config_sha256"]),
        "training step": f"{member['checkpoint_step']:,}",
        "training precision and seed": f"{experiment.train.precision}, {experiment.seed}",
        "training versions": escape_markdown(
            ", ".join(f"{name} {version}" for name, version in config.versions.items())
        ),
    }
    classes = report_content.count_word(content["classes"])
    text = _paragraph(
        f"Convolutional network {code_span(content['model'])}{f' at {size}x{size} pixels' if size else ''}, "
        f"{content['parameters']:,} parameters. Input: grey faces of 48x48 pixels. Output: {classes} logits in the "
        f"order {', '.join(map(escape_markdown, content['classes']))}. The weights are stored in float16; inference "
        "runs in float32."
    )
    return "\n".join([text, "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _training_data(config: RunConfig) -> str:
    data, policy = config.trained_on, config.experiment.augment.policy
    origin = _FER2013 if config.classes == CLASSES else f"with {len(config.classes)} classes of its own."
    return _paragraph(
        f"{config.train_examples:,} faces: the train split of {code_span(data['name'])} (manifest "
        f"SHA-256 {code_span(data['manifest_sha256'])}) {origin} Initial weights: {_initial_weights(config)}. "
        f"Augmentation: {code_span(policy)}."
        f"{_votes(config.experiment)}{_teachers(config)}{_averaged(config)}"
    )


def _averaged(config: RunConfig) -> str:
    """Returns a sentence on the runs of a model soup, else nothing."""
    if not config.averaged:
        return ""
    runs = ", ".join(
        f"{code_span(run['run'])} (step {run['step']:,}, SHA-256 {code_span(run['weights_sha256'])})"
        for run in config.averaged
    )
    return (
        f" The weights are the mean of those of {len(config.averaged)} runs (M. Wortsman et al. 2022, "
        f"arXiv:2203.05482), of which this section describes the first: {runs}."
    )


def _initial_weights(config: RunConfig) -> str:
    """Describes the initial weights; if those of a run, also the initial weights of that run, and so on."""
    texts, weights = [], config.experiment.model.weights
    for run in run_dir.initial_runs(config.initialized_from):
        sources = run.get("learned_from", {})
        facts = [f"step {run['step']:,}, SHA-256 {code_span(run['weights_sha256'])}"]
        if sources:
            facts.append(
                f"trained on {code_span(run['trained_on']['name'])}, labels {code_span(sources['label_source'])}"
            )
        if sources.get("teacher_runs"):
            facts.append(f"distilled from {code_span(sources['teacher_runs'])}")
        texts.append(f"the best weights of the run {code_span(run['run'])} ({'; '.join(facts)})")
        weights = sources.get("weights", "")
    named = f"{code_span(weights)} (source and terms: docs/reproduce.md)"
    texts.append({"none": "random", "": "not recorded"}.get(weights, named))
    return "; its initial weights: ".join(texts)


def _votes(experiment: Experiment) -> str:
    """Returns a sentence on the votes of FER+ if the training targets include them, else nothing."""
    label_source = experiment.train.label_source
    if label_source == "fer":
        return ""
    return (
        " The training targets include the votes of FER+ (E. Barsoum et al. 2016, arXiv:1608.01041; "
        f"`label_source={label_source}` in `fer/config.py`)."
    )


def _teachers(config: RunConfig) -> str:
    """Returns a sentence on the teachers of a distilled network, else nothing."""
    teachers, train = config.teachers, config.experiment.train
    if not teachers:
        return ""
    hashes = ", ".join(code_span(each.weights_sha256) for each in teachers)
    initial = ", ".join(code_span(each.began_with) for each in teachers if each.began_with != "none")
    return (
        f" Knowledge distillation: the label has weight {1 - train.distill_weight:.0%} in the target, the "
        f"prediction of the teacher {code_span(train.teacher_runs)} the rest (weights SHA-256 {hashes}"
        f"{f'; initial weights {initial}' if initial else ''})."
    )


def _uses_other_networks(config: RunConfig) -> bool:
    """Returns whether the network, or a run that it descends from, learned from other weights or other data."""
    runs = run_dir.initial_runs(config.initialized_from)
    averaged = run_dir.ancestors({"averaged": config.averaged})
    for run in [*runs, *averaged]:
        sources = run.get("learned_from", {})  # not recorded by earlier versions
        if not sources or sources["teacher_runs"] or run["trained_on"] != config.trained_on:
            return True
    weights = runs[-1]["learned_from"]["weights"] if runs else config.experiment.model.weights
    loaded = {weights, *(run["learned_from"]["weights"] for run in averaged)}
    return loaded != {"none"} or bool(config.teachers)


def _evaluation(content: Mapping[str, Any]) -> str:
    protocol = content["protocol"]
    excluded = (
        f" {protocol['num_unlabelled']:,} faces without a label are excluded." if protocol["num_unlabelled"] else ""
    )
    optimistic = content["split"] == protocol["selected_on"] and eval_json.is_training_data(content)
    return _paragraph(
        f"These float16 weights were evaluated on the {content['examples']:,} faces of the split {content['split']} of "
        f"{code_span(content['data']['name'])}, without test-time augmentation.{excluded} The split "
        f"{protocol['selected_on']} selected the checkpoint"
        f"{', so the metrics below are optimistic' if optimistic else ''}. The test split was not used. All metrics "
        "come from `eval.json` beside this card, which also records the versions."
    )


def _metrics(content: Mapping[str, Any]) -> str:
    lines = [f"| {' | '.join(report_content.METRIC_HEADER[:3])} |", "|---|---|---|"]
    lines += [f"| {name} | {value} | {interval} |" for name, value, interval, _ in report_content.metric_rows(content)]
    lines += ["", f"| {' | '.join(report_content.CLASS_HEADER[:5])} |", "|---|---|---|---|---|"]
    lines += [
        f"| {escape_markdown(name)} | {' | '.join(rest[:4])} |" for name, *rest in report_content.class_rows(content)
    ]
    return "\n".join(lines)


def _limitations(content: Mapping[str, Any]) -> str:
    items = [_best_and_worst_class(content), *_data_limitations(tuple(content["classes"]))]
    clean, groups, scaled = (
        content[name] for name in ("excluding_train_duplicates", "accuracy_by_agreement", "calibration")
    )
    photos = content.get("excluding_train_photos")
    train = "the training data" if eval_json.is_training_data(content) else "the train split of the same shards"
    if clean and clean["num_duplicates"]:
        items.append(
            f"Data leakage: {clean['num_duplicates']:,} of the evaluated faces are also in {train}. Without them, the "
            f"accuracy is {100 * clean['accuracy']:.1f} %."
        )
    if eval_json.is_all_in_train(content, "excluding_train_duplicates"):
        items.append(f"Data leakage: all of the evaluated faces are also in {train}.")
    if photos and photos["num_duplicates"]:
        items.append(
            f"Shared photographs: {photos['num_duplicates']:,} of the evaluated faces are cut from photographs that "
            f"are also in {train}. Without them, the accuracy is {100 * photos['accuracy']:.1f} %."
        )
    if eval_json.is_all_in_train(content, "excluding_train_photos"):
        items.append(f"Shared photographs: all of the evaluated faces are cut from photographs that are in {train}.")
    large = [group for group in groups or [] if group["examples"] >= MIN_EXAMPLES]
    if len(large) > 1:
        low, high = large[0], large[-1]
        items.append(
            f"Ambiguous faces: the accuracy is {100 * high['accuracy']:.1f} % where {high['votes']} of the ten FER+ "
            f"annotators agree, and {100 * low['accuracy']:.1f} % where {low['votes']} agree."
        )
    if scaled:
        confidence = "over-confident" if scaled["temperature"] > 1 else "under-confident"
        items.append(f"The network is {confidence} (temperature {scaled['temperature']:.2f}, fitted on validation).")
    return _list(items)


def _data_limitations(classes: tuple[str, ...]) -> list[str]:
    """Describes the limitations of the training data: those of FER-2013, or of any data."""
    groups = (
        "Age, sex, skin colour and origin of the people in the pictures are not recorded, so the accuracy for any "
        "group is unknown. Expect it to differ between groups"
    )
    if classes != CLASSES:
        return [f"{groups}, and to be lowest for those that the training data show least."]
    return [
        f"{groups}, and to be lowest for those that image searches of 2013 showed least.",
        "Image searches for emotion words return strong and sometimes drawn expressions; faint, everyday expressions "
        "are rare in the training data.",
        "The labels are noisy: annotators agree with them in 65 ± 5 % of the cases (Goodfellow et al. 2013).",
    ]


def _best_and_worst_class(content: Mapping[str, Any]) -> str:
    """Describes the classes with the highest and lowest recall, and the most frequent confusion."""
    recall = {name: metrics["recall"] for name, metrics in content["per_class"].items() if metrics["support"]}
    best, worst = max(recall, key=lambda name: recall[name]), min(recall, key=lambda name: recall[name])
    matrix, names = np.array(content["confusion_matrix"]), list(map(escape_markdown, content["classes"]))
    mistakes = matrix - np.diag(np.diag(matrix))
    true, predicted = np.unravel_index(mistakes.argmax(), mistakes.shape)
    return (
        f"Recall ranges from {100 * recall[worst]:.1f} % ({escape_markdown(worst)}) to {100 * recall[best]:.1f} % "
        f"({escape_markdown(best)}). The most frequent confusion is {names[true]} predicted as {names[predicted]}, "
        f"{mistakes.max():,} of {matrix[true].sum():,} faces."
    )


def _list(items: Sequence[str]) -> str:
    return "\n".join(_paragraph(item, "- ", "  ") for item in items)


def _paragraph(text: str, first: str = "", later: str = "") -> str:
    """Wraps a paragraph; no line but the first begins with characters that begin another block of Markdown."""
    wrapped = textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )
    return _BLOCK.sub(" ", wrapped)
