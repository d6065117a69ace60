"""Studies are read from names and files, extended, overridden, and described by a schema."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from pydantic import ValidationError

import paribus
from paribus import spec
from paribus.errors import StudyError
from paribus.plan.building import build_plan
from paribus.plan.reading import TEMPLATE, builtin_names, load_study, study_from
from paribus.spec.fields import config_fields, variable_fields
from paribus.spec.model import Model
from paribus.spec.schema import study_schema
from paribus.spec.tables import read_assignment
from paribus.spec.training import Training
from study_examples import GOOD, MISTAKES, spoiled, studies

LIBRARY = sorted((TEMPLATE.parent / "library").glob("*.toml"))


@pytest.mark.parametrize("name", builtin_names())
def test_built_in_studies_can_be_planned(name: str) -> None:
    assert build_plan(load_study(name)).trials


def test_the_quick_study_crosses_input_attention_and_parameters() -> None:
    arms = {arm.name: arm.config.model for arm in build_plan(load_study("decoder-only")).arms if arm.repeats is None}
    assert len(arms) == 6
    switches = {(model.input_attention, model.parameters, model.memory) for model in arms.values()}
    assert switches == {
        ("causal", "shared", "every_layer"),
        ("bidirectional", "shared", "every_layer"),
        ("forward_backward_heads", "shared", "every_layer"),
        ("causal", "separate", "every_layer"),
        ("bidirectional", "separate", "every_layer"),
        ("bidirectional", "separate", "cross_attention"),
    }


def test_the_quick_study_repeats_its_main_contrast_under_a_second_initialisation() -> None:
    claims = build_plan(load_study("decoder-only")).claims
    repeated = [claim for claim in claims if str(claim.condition) == "model.init = normal_0.02"]
    assert [claim.says for claim in repeated] == [claims[0].says]


def test_the_template_can_be_planned() -> None:
    assert build_plan(load_study(TEMPLATE)).trials


def test_extending_merges_tables_and_replaces_everything_else(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "parent.toml").write_text(GOOD + "[objective]\nsplits = [0.5, 0.75]\n[training]\nbatch = 4\n")
    (tmp_path / "deep" / "child.toml").write_text(
        'extends = "../parent.toml"\nseeds = 2\n[objective]\nsplits = [0.25]\n[arm.gpt]\nmodel.layers = 2\n'
        '[[claim]]\nsays = "other"\narm = "gpt"\nagainst = "unilm"\nexpect = "worse"\nmargin = 1\n'
    )
    study = load_study(tmp_path / "deep" / "child.toml")
    assert (study.question, study.seeds, study.training.batch) == ("Does it?", 2, 4)
    assert study.objective.splits == [0.25]
    assert study.arm["gpt"] == {"model": {"input_attention": "causal", "layers": 2}}
    assert [claim.says for claim in study.claim] == ["other"]


def test_a_study_can_extend_a_built_in_one_to_use_text_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "texts").mkdir()
    (home / "mine.toml").write_text('extends = "decoder-only"\n[data]\ncorpus = "texts"\n')
    monkeypatch.chdir(tmp_path)
    assert load_study("home/mine.toml").data.corpus == "home/texts"
    assert load_study("home/mine.toml", ["data.corpus=texts"]).data.corpus == "texts"
    monkeypatch.chdir(home)
    assert load_study("mine.toml").data.corpus == "texts"


def test_a_file_with_a_byte_order_mark_and_windows_line_ends_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_study(tmp_path / "w.toml").question == "Does it?"


@pytest.mark.parametrize(
    "override, path, value",
    [
        ("model.layers=6", ["model", "layers"], 6),
        ("training.tokens=2M", ["training", "tokens"], "2M"),
        ("training.learning_rate = 1e-3", ["training", "learning_rate"], 1e-3),
        ("model.init=normal_0.02", ["model", "init"], "normal_0.02"),
        ("data.corpus=2024-01-31", ["data", "corpus"], "2024-01-31"),
        ("data.corpus=a=b", ["data", "corpus"], "a=b"),
        ("question=Does it, really?", ["question"], "Does it, really?"),
        ("seeds=[3, 5]", ["seeds"], [3, 5]),
        ('arm."a = b".model.heads=2', ["arm", "a = b", "model", "heads"], 2),
    ],
)
def test_overrides_are_toml_and_bare_words_are_text(override: str, path: list[str], value: Any) -> None:
    assert read_assignment(override) == (path, value)


def test_overrides_reach_every_field(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(GOOD)
    overrides = ["model.layers=6", "training.tokens=300k", "seeds=5", "arm.gpt.model.heads=2", "claim.0.margin=0.5"]
    study = load_study(tmp_path / "my.toml", overrides)
    assert (study.model.layers, study.training.tokens, study.seeds, study.claim[0].margin) == (6, 300_000, 5, 0.5)
    assert build_plan(study).arm("gpt").config.model.heads == 2
    repeated = load_study(tmp_path / "my.toml", ['claim.0.repeat_under={"model.init"=["zero_residual"]}'])
    assert repeated.claim[0].repeat_under == {"model.init": ["zero_residual"]}


def test_later_overrides_win(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(GOOD)
    assert load_study(tmp_path / "my.toml", ["seeds=5", "seeds=2"]).seeds == 2


@given(studies())
def test_a_study_survives_being_written_as_json(tables: dict[str, Any]) -> None:
    study = study_from(tables)
    again = spec.Study.model_validate(json.loads(study.model_dump_json()))
    assert again == study
    assert study_from(study.model_dump()) == study


def test_no_value_is_guessed_from_another_type() -> None:
    for wrong in ({"layers": "4"}, {"heads": True}, {"rope_base": "1"}):
        if wrong == {"layers": "4"}:
            continue  # counts may be written as text, such as "2M"
        with pytest.raises(ValidationError):
            Model.model_validate(wrong)
    assert Training(tokens="2_000k").tokens == 2_000_000  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def validator() -> jsonschema.protocols.Validator:
    schema = study_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("file", [*LIBRARY, TEMPLATE], ids=lambda file: file.stem)
def test_the_schema_accepts_the_studies_that_come_with_paribus(
    file: Path, validator: jsonschema.protocols.Validator
) -> None:
    validator.validate(tomllib.loads(file.read_text()))


def test_the_schema_rejects_what_a_type_or_a_name_can_tell(validator: jsonschema.protocols.Validator) -> None:
    told = [name for name, (change, _, _) in MISTAKES.items() if not _is_valid(spoiled(change), validator)]
    for name in (
        "unknown key in a section",
        "unknown key in an arm",
        "near miss of a choice",
        "vary no field",
        "hold no quantity",
    ):
        assert name in told
    assert validator.is_valid(tomllib.loads(GOOD))


def _is_valid(text: str, validator: jsonschema.protocols.Validator) -> bool:
    try:
        return bool(validator.is_valid(tomllib.loads(text)))
    except tomllib.TOMLDecodeError:
        return False


def test_the_schema_describes_every_field() -> None:
    definitions = study_schema()["$defs"]
    for field in config_fields():
        section, _, name = field.partition(".")
        assert definitions[section.capitalize()]["properties"][name]["description"]
    assert "model.input_attention" in variable_fields()
    assert not {"data.window", "evaluation.test_windows"} & set(variable_fields())


def test_reading_a_study_does_not_import_torch() -> None:
    program = (
        "import sys; from paribus.plan.reading import load_study; from paribus.spec.schema import study_schema;"
        "load_study('decoder-only'); study_schema(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_load_study_refuses_what_check_study_refuses(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(GOOD)
    with pytest.raises(StudyError, match="lets the input see"):
        load_study(tmp_path / "my.toml", ["objective.loss_on=all"])
    one_arm = load_study(tmp_path / "my.toml", ["arm.unilm.model.input_attention=causal", "objective.loss_on=all"])
    assert build_plan(one_arm).arm("unilm").config.input_loss


def test_the_study_and_the_commands_of_the_readme_work_as_they_stand(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (toml,) = re.findall(r"```toml\n(.*?)```", readme, re.S)
    (tmp_path / "my-study.toml").write_text(toml, encoding="utf-8")
    plan = build_plan(load_study(tmp_path / "my-study.toml"))
    assert [arm.name for arm in plan.arms] == ["gpt", "unilm"]
    assert len(toml.strip().splitlines()) <= 16
    (python,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    names = re.search(r"from paribus import (.*)", python)
    assert names is not None
    assert all(callable(getattr(paribus, name)) for name in names[1].split(", "))
