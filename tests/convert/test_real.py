"""Known figures of the real FER-2013; skipped where the data set is absent."""

import pytest

from fer.convert import convert
from fer.convert.verify import verify
from tests.convert import input_factories

TRUTH = {
    "train": [3995, 436, 4097, 7215, 4830, 3171, 4965],
    "validation": [467, 56, 496, 895, 653, 415, 607],
}


@pytest.fixture(scope="module")
def conversion(tmp_path_factory):
    if not (input_factories.REAL / "fer2013.tar.gz").exists():
        pytest.skip(f"the real data set is absent: there is no {input_factories.REAL / 'fer2013.tar.gz'}")
    return convert.convert(
        convert.Options(
            input=str(input_factories.REAL / "fer2013.tar.gz"),
            ferplus=str(input_factories.REAL / "fer2013new.csv"),
            output=str(tmp_path_factory.mktemp("real") / "fer2013"),
        )
    )


def test_convert_of_fer2013_has_published_class_counts(conversion):
    assert {name: list(split.class_counts.values()) for name, split in conversion.splits.items()} == TRUTH


def test_audit_of_fer2013_has_known_duplicates_and_leakage(conversion):
    audit = conversion.raw["audit"]
    assert (audit["rows"], audit["distinct_images"], audit["blank"]["constant"]) == (32_298, 30_766, 12)
    assert audit["exact_duplicates"] == {
        "groups": 1_273,
        "rows": 2_805,
        "surplus_rows": 1_532,
        "conflicting_groups": 47,
        "straddling_groups": 270,
    }
    assert audit["leakage"]["validation"]["identical_to_train"] == 280
    assert len(conversion.splits["validation"].train_duplicates) == 280


def test_convert_of_fer2013_has_known_mean_and_deviation(conversion):
    assert conversion.statistics == pytest.approx({"mean": 0.50774, "std": 0.25501}, abs=5e-6)


def test_audit_of_fer2013_has_known_agreement_with_ferplus(conversion):
    assert conversion.raw["audit"]["ferplus"]["agreement"] == pytest.approx(0.657, abs=0.001)


def test_verify_accepts_shards_of_fer2013(conversion):
    assert len(verify(conversion.folder).splits["train"].shards) == 8


@pytest.mark.extended
def test_convert_of_ferplus_has_known_counts_of_its_majority_rule(tmp_path):
    if not (input_factories.REAL / "fer2013.tar.gz").exists():
        pytest.skip(f"the real data set is absent: there is no {input_factories.REAL / 'fer2013.tar.gz'}")
    made = convert.convert(
        convert.Options(
            input=str(input_factories.REAL / "fer2013.tar.gz"),
            ferplus=str(input_factories.REAL / "fer2013new.csv"),
            classes="ferplus",
            output=str(tmp_path / "ferplus"),
        )
    )
    assert {name: list(split.class_counts.values()) for name, split in made.splits.items()} == {
        "train": [8740, 7287, 3149, 3014, 2100, 119, 532, 119],
        "validation": [1182, 865, 415, 351, 287, 24, 62, 13],
    }
    assert made.raw["audit"]["ferplus_labels"]["left_out"]["train"] == {
        "no_majority": 3423,
        "unknown": 76,
        "not_a_face": 150,
    }
