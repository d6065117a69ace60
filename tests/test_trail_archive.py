"""A study travels as one file: the same bytes each time, complete without its weights, safe to open, hard to change unseen."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

import paribus
from paribus.cli.main import run_command
from paribus.errors import UserError
from paribus.report.build import build_report
from paribus.verify.archive import opened, pack
from paribus.verify.evidence import Evidence
from paribus.verify.records import files
from paribus.verify.verification import verify
from trail_study import contents, edit, study_of


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    paribus.run_study(study_of(folder / "text", seeds=1), folder / "study", workers=1)
    return folder / "study"


@pytest.fixture(scope="module")
def archive(finished: Path) -> Path:
    return pack(finished, finished.with_name("study.tar.xz"))


def packed_by_hand(folder: Path, file: Path) -> Path:
    with tarfile.open(file, "w:gz", format=tarfile.USTAR_FORMAT) as made:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                made.add(path, f"study/{path.relative_to(folder)}")
    return file


@pytest.mark.parametrize("suffix", [".tar.xz", ".tar.gz"])
def test_the_same_study_gives_the_same_bytes_wherever_and_whenever(finished: Path, tmp_path: Path, suffix: str) -> None:
    other = shutil.copytree(finished, tmp_path / "elsewhere")
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
    one, two = pack(finished, tmp_path / f"one{suffix}"), pack(other, tmp_path / f"two{suffix}")
    assert one.read_bytes() == two.read_bytes()


def test_an_archive_holds_everything_but_weights_and_reports(finished: Path, archive: Path) -> None:
    with tarfile.open(archive) as made:
        names = {name.removeprefix("study/") for name in made.getnames()}
    left_out = {name for name in contents(finished) if name not in names}
    assert all(name.endswith("state.safetensors") or name.startswith(("report.", "workers/")) for name in left_out)
    assert names <= contents(finished).keys()
    assert len(names) > 15


def test_report_and_verdicts_are_made_from_an_archive_alone(finished: Path, archive: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(archive, tmp_path / "sent.tar.xz"))
    for form in ("html", "json"):
        assert run_command(["report", str(copy), "--format", form]) == 0
        assert (tmp_path / f"sent.{form}").read_bytes() == build_report(finished, form).read_bytes()
    found = verify(copy, seed=0, steps=2)
    assert found.verified, found.faults
    assert found.level == "bitwise"
    assert {check.name: check.outcome for check in found.checks}["verdicts"] == "holds"


def test_one_character_changed_in_any_file_of_an_archive_is_found(archive: Path, tmp_path: Path) -> None:
    with opened(archive) as folder:
        shutil.copytree(folder, tmp_path / "study")
    unpacked = tmp_path / "study"
    assert files(Evidence(unpacked, packed=True)).outcome == "holds"
    changed = 0
    for path in sorted(path for path in unpacked.rglob("*") if path.is_file()):
        before = path.read_bytes()
        digits = [place for place, byte in enumerate(before) if byte in b"0123456789"] or [len(before) // 2]
        for place in {digits[0], digits[len(digits) // 2], digits[-1]} if before else ():
            path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
            assert files(Evidence(unpacked, packed=True)).outcome == "fails", (path, place)
            changed += 1
        path.write_bytes(before)
    assert changed > 40


@pytest.mark.parametrize(
    "name", ["verdicts.json", "manifest.json", "trials/*/metrics.jsonl", "trials/*/test_losses.safetensors"]
)
def test_verify_fails_on_an_archive_with_a_digit_changed(archive: Path, tmp_path: Path, name: str) -> None:
    with opened(archive) as folder:
        shutil.copytree(folder, tmp_path / "study")
    path = sorted((tmp_path / "study").glob(name))[0]
    content = path.read_bytes()
    place = max(place for place, byte in enumerate(content) if byte in b"0123456789")
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    forged = packed_by_hand(tmp_path / "study", tmp_path / "forged.tar.gz")
    assert run_command(["verify", str(forged), "--steps", "0"]) == 1


def test_a_file_added_to_an_archive_is_found(archive: Path, tmp_path: Path) -> None:
    with opened(archive) as folder:
        shutil.copytree(folder, tmp_path / "study")
    (tmp_path / "study" / "notes.txt").write_text("believe me")
    found = verify(packed_by_hand(tmp_path / "study", tmp_path / "more.tar.gz"), seed=0, steps=0)
    assert found.faults == ["notes.txt is not in the manifest"]


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"x"
) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, len(content)
    return made, content


@pytest.mark.parametrize(
    "members,words",
    [
        ([member("/etc/cron.d/x")], "outside its folder"),
        ([member("study/../../x")], "outside its folder"),
        ([member("elsewhere/x")], "outside its folder"),
        ([member("study/a"), member("study/a")], "comes twice"),
        ([member("study/a", tarfile.SYMTYPE, "/etc/passwd", b"")], "no regular file"),
        ([member("study/a", tarfile.LNKTYPE, "study/b", b"")], "no regular file"),
        ([member("study/a", tarfile.FIFOTYPE, content=b"")], "no regular file"),
        ([member("study/" + "long/" * 60 + "a")], "no regular file"),  # a name that only an extension can hold
    ],
    ids=["absolute", "above", "other folder", "twice", "symbolic link", "hard link", "pipe", "extension"],
)
def test_an_archive_that_reaches_out_is_refused(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], words: str
) -> None:
    file = tmp_path / "bad.tar.gz"
    with tarfile.open(file, "w:gz", format=tarfile.GNU_FORMAT) as made:
        for info, content in members:
            made.addfile(info, io.BytesIO(content))
    before = contents(tmp_path)
    with pytest.raises(UserError, match=words), opened(file):
        pass
    assert contents(tmp_path) == before


def test_an_archive_that_unpacks_to_more_than_a_study_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bomb.tar.gz"
    huge = tarfile.TarInfo("study/a")
    huge.size = 5 << 30
    with tarfile.open(file, "w:gz") as made:
        made.fileobj.write(huge.tobuf(tarfile.GNU_FORMAT))  # type: ignore[union-attr]
    with pytest.raises(UserError, match="that is no study"), opened(file):
        pass


def test_half_an_archive_is_told_in_one_line(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = tmp_path / "half.tar.xz"
    half.write_bytes(archive.read_bytes()[:2000])
    for command in ("verify", "report"):
        assert run_command([command, str(half)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_pack_overwrites_nothing_and_packs_nothing_that_was_changed(
    finished: Path, archive: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="exists already"):
        pack(finished, archive)
    with pytest.raises(UserError, match=r"ends in \.tar\.xz"):
        pack(finished, tmp_path / "study.zip")
    copy = Path(shutil.copytree(finished, tmp_path / "study"))
    edit(copy / "verdicts.json", lambda value: value.update(confidence=0.5))
    with pytest.raises(UserError, match=r"verdicts\.json is changed"):
        pack(copy, tmp_path / "study.tar.xz")
    (copy / "manifest.json").unlink()
    with pytest.raises(UserError, match="no manifest"):
        pack(copy, tmp_path / "study.tar.xz")
    assert not (tmp_path / "study.tar.xz").exists()
