"""Experiments: types, validation, and the record that is read back unchanged."""

import dataclasses

import pytest

from fer import config
from fer.config import Augment, Data, Experiment, Model, Train
from fer.errors import UserError


def test_experiment_default_is_valid():
    Experiment().validate()


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("seed", -1, "0 or more"),
        ("model.dropout", 1.0, "below 1"),
        ("model.image_size", 12, "24 to 1024"),
        ("model.weights", "weights.pkl", "none, imagenet or a file"),
        ("model.normalization", "rgb", "caffe"),
        ("model.stem_channels", "mean", "repeat or sum"),
        ("model.pooling", "min", "avgmax"),
        ("augment.backend", "keras", "fused or keras_cv"),
        ("optimizer.name", "sdg", "sgd or adamw"),
        ("optimizer.learning_rate", float("nan"), "finite"),
        ("optimizer.learning_rate", 10**400, "finite"),
        ("optimizer.warmup_epochs", 1e10, "a finite number of at most 1,000,000,000"),
        ("optimizer.decay_epochs", 1e308, "a finite number of at most 1,000,000,000"),
        ("train.max_steps", 2**31, "below 2**31"),
        ("train.epochs", 10**30, "below 2**31"),
        ("data.in_memory_limit_mib", 2**63, "below 2**31"),
        ("train.epochs", 0, "1 or more"),
        ("train.epochs", 2.5, "type int"),
        ("train.epochs", True, "type int"),
        ("train.precision", "float16", "mixed_float16"),
        ("train.ema_decay", 1.0, "below 1"),
        ("train.tf32", "yes", "type bool"),
        ("train.steps_per_execution", 0, "auto or 1 to 20"),
        ("train.steps_per_execution", "all", "auto or of type int"),
        ("train.jit_compile", 1, "auto or of type bool"),
        ("train.deterministic", 1, "auto or of type bool"),
        ("train.steps_per_execution", 21, "1 to 20"),
        ("train.label_source", "votes", "fer or ferplus or mixture"),
        ("train.on_nan", "skip", "stop or rollback"),
        ("train.profile_steps", "12", 'two steps such as "10-12"'),
        ("train.profile_steps", "0-3", 'two steps such as "10-12"'),
        ("train.profile_steps", "12-10", 'two steps such as "10-12"'),
        ("model.sync_batch_norm", 1, "type bool"),
        ("data.mode", "memory", "in_memory or streaming or auto"),
        ("data.in_memory_limit_mib", -1, "0 or more"),
        ("data.shuffle_buffer_size", 0, "1 or more"),
        ("data.sampling", "even", "uniform or balanced"),
        ("data.class_weights", "cubed", "none or inverse or effective"),
        ("data.class_balanced_beta", 1.0, "below 1"),
    ],
)
def test_validate_error_names_field_value_and_allowed_values(path, value, allowed):
    experiment = Experiment()
    holder, _, name = path.rpartition(".")
    setattr(getattr(experiment, holder) if holder else experiment, name, value)
    with pytest.raises(UserError, match="config") as caught:
        experiment.validate()
    assert f"config.{path} is {value!r}" in str(caught.value)
    assert allowed in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(sampling="balanced", mode="streaming"), "data.sampling is 'balanced'; it must be uniform with data.mode"),
        (Data(sampling="balanced", class_weights="inverse"), "must be none with data.sampling=balanced"),
    ],
)
def test_validate_rejects_incompatible_class_balancing(data, message):
    with pytest.raises(UserError, match=message):
        Experiment(data=data).validate()


@pytest.mark.parametrize("value", ["auto", True])
def test_validate_rejects_deterministic_with_keras_cv(value):
    experiment = Experiment(augment=Augment(backend="keras_cv"), train=Train(deterministic=value))
    with pytest.raises(
        UserError, match=rf"config\.train\.deterministic is {value!r}; it must be false with augment\.backend"
    ):
        experiment.validate()
    experiment.train.deterministic = False
    experiment.validate()


def test_experiment_round_trips_through_dict():
    experiment = Experiment(seed=3, model=Model(name="inception_v3", image_size=96), train=Train(max_steps=7))
    assert config.from_dict(experiment.to_dict()) == experiment


def test_from_record_fills_missing_fields_with_the_behaviour_of_their_version():
    record = Experiment().to_dict()
    for name in ("tf32", "steps_per_execution", "label_source", "on_nan", "profile_steps"):
        del record["train"][name]
    assert config.from_dict(record) == Experiment()
    assert config.from_record(record) == Experiment(train=Train(steps_per_execution=1))  # older versions had no `auto`
    assert config.sha256(record) != Experiment().sha256()  # the record keeps its own hash: see fer.models.loading


def test_parse_step_range_returns_first_and_last():
    assert config.parse_step_range("10-12") == (10, 12)
    assert config.parse_step_range("7-7") == (7, 7)


def test_from_dict_error_suggests_nearest_field():
    record = Experiment().to_dict()
    record["train"]["epoch"] = 3
    with pytest.raises(UserError, match=r"train\.epoch; the nearest is train\.epochs"):
        config.from_dict(record)


@pytest.mark.parametrize("value", [None, 3, [], "compact"])
def test_from_dict_error_names_part_without_fields(value):
    with pytest.raises(UserError, match=r"^config\.train is .*; it must hold the fields of a fer\.config\.Train"):
        config.from_dict({**Experiment().to_dict(), "train": value})
    with pytest.raises(UserError, match=r"^config is .*; it must hold the fields of a fer\.config\.Experiment"):
        config.from_dict(value)


def test_from_dict_error_names_key_that_is_no_text():
    with pytest.raises(UserError, match=r"There is no field train\.1"):
        config.from_dict({"train": {1: 2}})


def test_experiment_sha256_changes_with_every_field():
    def variants(node, path=""):
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if dataclasses.is_dataclass(value):
                yield from variants(value, f"{path}{field.name}.")
            else:
                yield f"{path}{field.name}", value

    same = Experiment(train=Train(ema_decay=Train().ema_decay))
    assert same.sha256() == Experiment().sha256()
    for path, value in variants(Experiment()):
        changed = Experiment()
        holder, _, name = path.rpartition(".")
        other = f"{value}x" if isinstance(value, str) else value + 1
        setattr(getattr(changed, holder) if holder else changed, name, other)
        assert changed.sha256() != Experiment().sha256(), path


def test_experiment_accepts_integers_for_floats_with_same_hash():
    whole, fraction = Experiment(), Experiment()
    whole.optimizer.warmup_epochs, fraction.optimizer.warmup_epochs = 3, 3.0
    whole.validate()
    assert whole.sha256() == fraction.sha256()


def test_diff_lists_old_and_new_values():
    other = Experiment(seed=1, train=Train(epochs=2))
    assert config.diff(Experiment(), other) == ["seed: 0 -> 1", "train.epochs: 40 -> 2"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.train.max_stepz=3", "the nearest is config.train.max_steps"),
        ("--config.epochs=3", "the nearest is config.train.epochs"),
        ("--config.optimizer.lr=0.1", "the field is config.optimizer.learning_rate"),
        ("--config.train.batch_size=8", "the field is config.train.global_batch_size"),
        ("--config.model.num_classes=8", "the classes are those of --data"),
        ("--config.finetune.speed=1", "there are config.finetune.head_only_epochs, config.finetune.trainable_blocks"),
        ("--config.train=3", "There is no field config.train"),
        ("--config=nowhere.py", "There is no config file 'nowhere.py'"),
    ],
)
def test_check_overrides_error_suggests_nearest_field(argument, message):
    with pytest.raises(UserError, match=message):
        config.check_overrides(["train.py", argument])


@pytest.mark.parametrize("name", ["config.json", "README.md", "compact"])
def test_check_overrides_rejects_config_that_is_no_python_file(tmp_path, name):
    path = tmp_path / name
    path.write_text("{}")
    for arguments in ([f"--config={path}"], ["--config", str(path)], [f"--config={path}:small"]):
        with pytest.raises(UserError, match=f"^{path} is no configuration, for it is no Python file"):
            config.check_overrides(["train.py", *arguments])


def test_check_overrides_accepts_known_fields():
    config.check_overrides(
        ["train.py", "--config.train.max_steps=3", "--noconfig.model.sync_batch_norm", "--workdir=x"]
    )


def test_validate_config_rejects_other_types():
    with pytest.raises(UserError, match="get_config"):
        config.validate_config({"train": {}})


def test_synonyms_name_existing_fields_and_hide_none():
    known = list(config.flatten(Experiment().to_dict()))
    assert set(config.SYNONYMS.values()) <= set(known)
    assert not {path.rpartition(".")[2] for path in known} & {*config.SYNONYMS, *config.ABSENT}


def record_with_old_names(experiment: Experiment) -> dict:
    """Returns `experiment` as a version before 0.1.0 recorded it: with the old names of fields and values."""
    old_names = {new: old for old, new in config.RENAMED_FIELDS.items()}
    record: dict = {}
    for path, value in config.flatten(experiment.to_dict()).items():
        for old, new in config.RENAMED_VALUES.get(path, {}).items():
            value = old if value == new else value
        section, _, name = old_names.get(path, path).rpartition(".")
        (record.setdefault(section, {}) if section else record)[name] = value
    return record


def test_from_record_reads_old_field_names_and_values():
    experiment = Experiment(
        model=Model(stem_channels="sum", truncate_at="mixed8"),
        data=Data(mode="in_memory", in_memory_limit_mib=7),
        augment=Augment(mixup_off_epochs=3),
        train=Train(max_steps=9, global_batch_size=64, teacher_runs="runs/a", distill_weight=0.25),
    )
    record = record_with_old_names(experiment)
    assert (record["model"]["cut"], record["data"]["mode"], record["train"]["teacher"]) == (
        "mixed8",
        "resident",
        "runs/a",
    )
    assert config.from_record(record) == experiment


def test_renamed_fields_map_names_that_no_longer_exist_to_existing_ones():
    known = set(config.flatten(Experiment().to_dict()))
    assert set(config.RENAMED_FIELDS.values()) <= known
    assert not set(config.RENAMED_FIELDS) & known


def test_check_overrides_error_names_new_field_of_old_name():
    with pytest.raises(
        UserError, match=r"no field config\.train\.teacher; its name is config\.train\.teacher_runs now"
    ):
        config.check_overrides(["train.py", "--config.train.teacher=runs/a"])


def test_show_lists_every_field_and_marks_changed_ones():
    experiment = Experiment(train=Train(epochs=3))
    lines = config.show(experiment).splitlines()
    paths = config.flatten(experiment.to_dict())
    assert [line.partition(" = ")[0] for line in lines] == [*(f"config.{path}" for path in paths), "config_sha256"]
    assert "config.train.epochs = 3  # default: 40" in lines
    assert sum("# default" in line for line in lines) == 1
    assert lines[-1] == f"config_sha256 = {experiment.sha256()!r}"
