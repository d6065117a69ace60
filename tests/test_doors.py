"""The doors: parts are catalogued as text, and a user's own code is executed only with permission."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from paribus import doors
from paribus.errors import StudyError
from paribus.models.visibility import square_mask
from paribus.own_code import Code, bundle_hash, bundle_of, copy_bundle, pinned
from paribus.spec.model import Model

DOCUMENT = Path(__file__).parents[1] / "docs" / "extending.md"
PLUGIN = '''
from paribus.doors import rule


@rule("every_other", looks_back=True)
def every_other(at):
    """The input sees every other position before it, and itself."""
    return (at.key <= at.query) & (((at.query - at.key) % 2 == 0) | (at.query >= at.input_length))
'''
ASKS = """
import sys
from paribus.doors import rule
assert "every_other" in rule.names and "plugged" not in sys.modules
from paribus.spec.model import Model
model = Model(input_attention="every_other", layers=1, width=32)
assert model.looks_back and "plugged" not in sys.modules  # reading a study executes nothing
from paribus.errors import StudyError
from paribus.own_code import Code
try:
    rule.load("every_other")
except StudyError as error:
    assert "--allow-code" in str(error)
else:
    raise AssertionError("executed without permission")
from paribus.models.visibility import square_mask
print(square_mask(model, 0, 3, 0, Code(allowed=True))[0].int().tolist())
"""


def test_names_facts_and_descriptions_need_no_torch() -> None:
    code = (
        "import sys; from paribus import doors; entry = doors.rule.entry('causal'); assert entry.facts.looks_back; "
        "assert 'GPT' in entry.line; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_installed_package_offers_a_rule_that_is_imported_only_once_a_study_names_it(tmp_path: Path) -> None:
    (tmp_path / "plugged.py").write_text(PLUGIN)
    folder = tmp_path / "plugged-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[paribus.plugins]\nrule.every_other = plugged:every_other\n")
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    ran = subprocess.run([sys.executable, "-c", path + ASKS], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[[1, 0, 0], [0, 1, 0], [1, 0, 1]]"


def test_a_fact_that_a_kind_does_not_have_is_an_error() -> None:
    with pytest.raises(TypeError, match="looks_sideways"):
        doors.rule("crab", looks_sideways=True)


def own_file(folder: Path, answer: int) -> str:
    """A file that imports another beside it; the name of its function."""
    folder.mkdir()
    (folder / "helper.py").write_text(f"ANSWER = {answer}\n")
    code = "def part():\n    import helper\n\n    return ANSWER + helper.ANSWER\n"
    (folder / "mine.py").write_text(f"from helper import ANSWER\n\n\n{code}")
    return f"{folder / 'mine.py'}:part"


def test_a_bundle_holds_what_its_file_imports_and_two_of_one_name_stay_apart(tmp_path: Path) -> None:
    one, other = own_file(tmp_path / "one", 1), own_file(tmp_path / "other", 20)
    allowed = Code(allowed=True)
    assert (allowed.load(one)(), allowed.load(other)()) == (2, 40)
    assert "helper" not in sys.modules
    before = pinned(one, tmp_path)
    (tmp_path / "one" / "helper.py").write_text("ANSWER = 3\n")
    assert pinned(one, tmp_path) != before
    with pytest.raises(StudyError, match="has changed since the study was planned"):
        allowed.load(before)


def test_what_was_copied_is_executed_where_the_file_has_gone(tmp_path: Path) -> None:
    name = pinned(own_file(tmp_path / "one", 4), tmp_path)
    bundle = bundle_of(tmp_path / "one" / "mine.py")
    copy_bundle(bundle, tmp_path / "code")
    assert name.endswith(bundle_hash(bundle))
    for path in bundle:
        (tmp_path / "one" / path).unlink()
    assert Code(allowed=True, folders=(tmp_path / "code",)).load(name)() == 8


def test_without_permission_nothing_is_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\n\n\ndef part(at):\n    return at\n")
    name = pinned(f"{tmp_path / 'evil.py'}:part", tmp_path)
    assert doors.rule.entry(name).facts == doors.RuleFacts()
    with pytest.raises(StudyError, match="--allow-code"):
        Code().load(name)
    assert not marker.exists()


def test_the_documents_rule_is_loaded_with_its_facts(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(# my_rules\.py\n.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my_rules.py").write_text(example)
    name = pinned(f"{tmp_path / 'my_rules.py'}:every_other", tmp_path)
    assert doors.rule.entry(name).facts.looks_back
    model = Model(input_attention=name, layers=1, width=32)
    seen = square_mask(model, 0, 3, 1, Code(allowed=True))[0].int().tolist()
    assert seen == [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]]
    with pytest.raises(StudyError, match="--allow-code"):
        square_mask(model, 0, 3, 1)
