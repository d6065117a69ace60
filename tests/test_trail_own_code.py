"""Own code of a study: copied beside its results, hashed, carried along, and executed by nothing that only reads."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import paribus
from corpora import documents, write_folder
from paribus.cli.main import run_command
from paribus.errors import UserError
from paribus.files import read_json
from paribus.own_code import bundle_hash, bundle_of, copy_bundle
from paribus.records.finished import find_trial
from paribus.spec.study import Study
from paribus.verify.archive import opened, pack
from paribus.verify.verification import Verification, verify
from trail_study import TABLES, edit, hash_again, study_of

OPTIMIZER = """import torch
from rates import rate

def mine(parameters, training):
    return torch.optim.SGD([each for _, each in parameters], rate(training))
"""
HELPER = "def rate(training):\n    return training.learning_rate\n"
FIELDS = {"model": "input_attention", "training": "optimizer"}
"""The fields that name a part, by section."""


def study_with(folder: Path) -> Study:
    (folder / "my_optimizer.py").write_text(OPTIMIZER)
    (folder / "rates.py").write_text(HELPER)
    own = {"training": {"optimizer": f"{folder / 'my_optimizer.py'}:mine"}}
    return study_of(folder / "text", seeds=1, vary=["training.optimizer"], arm={"unilm": own, "gpt": {}})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with an optimizer of its own, whose file is gone since."""
    folder = tmp_path_factory.mktemp("own")
    paribus.run_study(study_with(folder), folder / "study", workers=1)
    for name in ("my_optimizer.py", "rates.py"):
        (folder / name).unlink()
    return folder / "study"


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def outcomes(found: Verification) -> dict[str, str]:
    return {check.name: check.outcome for check in found.checks}


def drawing(out: Path, prefix: str) -> int:
    """A seed that draws a trial of that name, where all may be drawn."""
    import random

    names = sorted(path.name for path in (out / "trials").iterdir())
    return next(seed for seed in range(100) if random.Random(seed).choice(names).startswith(prefix))


def test_what_the_plan_names_is_copied_with_its_imports_and_listed(finished: Path) -> None:
    (folder,) = (finished / "code").iterdir()
    assert (folder / "my_optimizer.py").read_text() == OPTIMIZER
    assert (folder / "rates.py").read_text() == HELPER
    assert bundle_hash(bundle_of(folder / "my_optimizer.py")) == folder.name
    listed = read_json(finished / "manifest.json")["files"]
    assert {f"code/{folder.name}/{name}" for name in ("my_optimizer.py", "rates.py")} <= listed.keys()


def test_verify_hashes_own_code_and_says_what_it_leaves_out(finished: Path) -> None:
    found = verify(finished, seed=0, steps=2)
    assert found.verified, found.faults
    assert outcomes(found)["own code"] == outcomes(found)["audit"] == "holds"
    assert found.trial is not None
    assert found.trial.startswith("gpt")
    assert (
        "trials of unilm: own code is executed only with --allow-code, so none of them is trained again" in found.notes
    )


@pytest.mark.parametrize("packed", [False, True])
def test_with_permission_own_code_is_trained_again_from_its_copies(
    finished: Path, tmp_path: Path, packed: bool
) -> None:
    path = pack(finished, tmp_path / "study.tar.xz") if packed else finished
    found = verify(path, seed=drawing(finished, "unilm"), steps=3, allow_code=True)
    assert found.verified, found.faults
    assert found.trial is not None
    assert found.trial.startswith("unilm")
    assert found.level == "bitwise"


@pytest.mark.parametrize("name", ["my_optimizer.py", "rates.py"])
def test_a_changed_copy_is_found_and_never_executed(copy: Path, name: str) -> None:
    (file,) = copy.glob(f"code/*/{name}")
    file.write_text(file.read_text() + "\nprint()\n")
    hash_again(copy)
    found = verify(copy, seed=0, steps=0)
    assert outcomes(found)["files"] == "holds"
    assert outcomes(found)["own code"] == "fails"
    assert "has the hash" in found.faults[0]
    again = verify(copy, seed=drawing(copy, "unilm"), steps=2, allow_code=True)
    assert any("has changed since the study was planned" in fault for fault in again.faults)
    file.unlink()
    hash_again(copy)
    assert outcomes(verify(copy, seed=0, steps=0))["own code"] == "fails"


def test_a_file_that_changes_between_plan_and_run_is_refused(tmp_path: Path) -> None:
    study = study_with(tmp_path)
    (tmp_path / "rates.py").write_text(HELPER + "\n")
    with pytest.raises(UserError, match="has changed since the study was planned"):
        paribus.run_study(study, tmp_path / "study", workers=1)
    assert not list((tmp_path / "study").glob("trials/*"))


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two finished studies of the same arms, on different text."""
    folder = tmp_path_factory.mktemp("harmless")
    for number in range(2):
        write_folder(folder / f"text{number}", documents(40, seed=number))
        data = {**TABLES["data"], "corpus": str(folder / f"text{number}")}
        paribus.run_study(paribus.study_from({**TABLES, "data": data}), folder / f"study{number}", workers=2)
    return [folder / f"study{number}" for number in range(2)]


@pytest.mark.parametrize("section", FIELDS)
def test_a_malicious_file_is_executed_by_nothing_that_only_reads(
    section: str, harmless: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "executed"
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(marker)!r}, 'w').close()\n\ndef part(*_):\n    return None\n")
    name = f"{evil}:part#{bundle_hash(bundle_of(evil))}"
    studies = []
    for number, source in enumerate(harmless):
        study = Path(shutil.copytree(source, tmp_path / f"study{number}"))
        copy_bundle(bundle_of(evil), study / "code")

        def place(config: dict[str, Any]) -> None:
            config[section][FIELDS[section]] = name

        edit(study / "study.json", place)
        edit(
            study / "plan.json",
            lambda plan: [place(table) for table in (plan["base"], *(a["config"] for a in plan["arms"]))],
        )
        for path in study.glob("trials/*/trial.json"):
            edit(path, lambda trial: place(trial["config"]))
        hash_again(study)
        studies.append(study)
    first = studies[0]
    for form in ("html", "md", "latex", "json"):
        assert run_command(["report", str(first), "--format", form]) == 0
    assert run_command(["verify", str(first)]) == 1  # its trials' ids are not those of such a plan
    said = capsys.readouterr().out
    assert "own code is executed only with --allow-code" in " ".join(said.split())
    archive = tmp_path / "sent.tar.xz"
    assert run_command(["pack", str(first), str(archive)]) == 0
    with opened(archive) as unpacked:
        assert list(unpacked.glob("code/*/evil.py"))
    assert run_command(["verify", str(archive), "--json"]) == 1
    assert run_command(["report", str(archive)]) == 0
    assert run_command(["aggregate", *map(str, studies), "--metric", "bits_per_byte"]) == 0
    assert find_trial(f"{first}:gpt").values
    if section == "model":
        assert run_command(["generate", f"{first}:gpt", "text"]) == 2
        assert "evil.py:part: code of the study's own is executed only by" in capsys.readouterr().err
    assert not marker.exists()
