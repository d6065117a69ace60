"""Every mistake in a study gives one line that names the file, the key, the value and what would be right."""

import re
from pathlib import Path

import pytest

from paribus import spec
from paribus.errors import StudyError
from paribus.plan.building import build_plan
from paribus.plan.checks import check_study
from paribus.plan.reading import load_study, study_from
from study_examples import GOOD, MISTAKES, spoiled


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(source: str | Path, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(StudyError) as caught:
        load_study(source, overrides)
    line = str(caught.value)
    assert "\n" not in line
    assert line.isprintable()
    return line


def test_the_good_study_is_good(folder: Path) -> None:
    (folder / "my.toml").write_text(GOOD)
    assert list(load_study("my.toml").arm) == ["gpt", "unilm"]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(mistake: str, folder: Path) -> None:
    change, key, words = MISTAKES[mistake]
    (folder / "my.toml").write_text(spoiled(change), encoding="utf-8")
    line = refused("my.toml")
    assert line.startswith("my.toml: ")
    assert key in line
    assert words in line


@pytest.mark.parametrize("mistake", ["odd head size", "repeated seed", "claim names no arm", "arm outside vary"])
def test_tables_from_python_get_the_same_checks(mistake: str) -> None:
    import tomllib

    change, key, words = MISTAKES[mistake]
    with pytest.raises(StudyError, match=re.escape(words)) as caught:
        study_from(tomllib.loads(spoiled(change)), "notebook")
    assert str(caught.value).startswith("notebook: ")
    assert key in str(caught.value)


def test_a_study_built_from_python_objects_is_checked_before_it_is_planned() -> None:
    study = spec.Study(question="q", vary=[], arm={"a": {}, "b": {"model.width": 64}})
    for check in (check_study, build_plan):
        with pytest.raises(StudyError, match=r"study: arm\.b\.model\.width = 64: arms may differ in nothing"):
            check(study)


def test_several_mistakes_are_counted(folder: Path) -> None:
    (folder / "my.toml").write_text(GOOD.replace("margin", "margn") + "[model]\nwidht = 1\nlayers = 0\n")
    assert refused("my.toml").endswith("(and 3 more to mend)")


def test_the_same_mistake_of_all_arms_is_told_once(folder: Path) -> None:
    (folder / "my.toml").write_text(GOOD + "[training]\ntokens = 5\n")
    assert "more to mend" not in refused("my.toml")


@pytest.mark.parametrize(
    "override, words",
    [
        ("model.widht=64", "--set: model.widht = 64: no such field; did you mean model.width?"),
        ("arm.gtp.model.heads=2", "--set: arm.gtp: no such arm; did you mean arm.gpt?"),
        ("claim.1.margin=1", "--set: claim.1: claim has 1 entry, numbered from 0"),
        ("seeds.first=1", '--set: seeds = {"first": 1}: should be a number of seeds'),
        ("question.a=1", '--set: question.a: question = "Does it?" is a value, so it has no fields'),
        ("model.layers", '--set "model.layers": should be FIELD=VALUE'),
        ("a..b=1", '--set "a..b=1": should be FIELD=VALUE'),
        ("seeds=[1", "not valid TOML"),
        ("extends=decoder-only", "--set: extends: belongs at the top of a study file"),
        ("model.layers=four", "--set: model.layers = "),
    ],
)
def test_a_bad_override_is_named_as_an_override(override: str, words: str, folder: Path) -> None:
    (folder / "my.toml").write_text(GOOD)
    assert words in refused("my.toml", (override,))


def test_a_mistake_in_an_extended_file_names_that_file(folder: Path) -> None:
    (folder / "parent.toml").write_text(GOOD + "[model]\nwidht = 3\n")
    (folder / "child.toml").write_text('extends = "parent.toml"\n[training]\nbatch = 4\n')
    assert refused("child.toml").startswith("parent.toml: model.widht")
    (folder / "parent.toml").write_text(GOOD)
    (folder / "child.toml").write_text('extends = "parent.toml"\n[training]\nbtach = 4\n')
    assert refused("child.toml").startswith("child.toml: training.btach")


@pytest.mark.parametrize(
    "content, words",
    [
        (b'question = "\xff"', "line 1 is not UTF-8 text"),
        (b"\n" * 1_000_001, "more than 1 MB"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
        (b"\x00", "not valid TOML"),
        (b"", "question: missing"),
        (b'extends = "bad.toml"', "goes in a circle: bad.toml -> bad.toml"),
        (b"extends = 3", "extends = 3: should be a built-in name or a TOML file"),
        (b'extends = "decoder-onyl"', 'extends = "decoder-onyl": no such study; did you mean decoder-only?'),
    ],
)
def test_a_file_that_is_no_study_is_told_in_one_line(content: bytes, words: str, folder: Path) -> None:
    (folder / "bad.toml").write_bytes(content)
    line = refused("bad.toml")
    assert line.startswith("bad.toml: ")
    assert words in line


@pytest.mark.parametrize(
    "source, words",
    [
        ("decoder-onyl", "did you mean decoder-only?"),
        ("my", "did you mean my.toml?"),
        ("myy.toml", "did you mean my.toml?"),
        ("nothing-like-it", 'built in are "decoder-only"'),
        (".", "a folder; a study is a TOML file, such as my.toml"),
        ("", "empty"),
        ("x" * 5000, "no such study"),
        ("a\nb", "no such study"),
        ("a\0b", "no such study"),
        ("/dev/null", "not a file"),
    ],
)
def test_a_missing_study_suggests_what_is_near(source: str, words: str, folder: Path) -> None:
    (folder / "my.toml").write_text(GOOD)
    assert words in refused(source)
