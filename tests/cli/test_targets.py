"""What could not be written at the end is refused at the beginning."""

import pytest
import typer

from cli._output import check_folder, check_target, write_json


def test_a_file_in_a_folder_that_exists_is_fine(tmp_path):
    check_target(None)
    check_target(tmp_path / "report.json")
    write_json(tmp_path / "report.json", {"seeds": 3})
    assert (tmp_path / "report.json").read_bytes() == b'{\n  "seeds": 3\n}\n'


def test_a_folder_or_a_file_without_one_is_refused(tmp_path):
    for wrong in (tmp_path, tmp_path / "missing" / "report.json"):
        with pytest.raises(typer.BadParameter):
            check_target(wrong)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    check_folder(tmp_path / "some" / "where")
    (tmp_path / "file").write_text("")
    with pytest.raises(typer.BadParameter):
        check_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize("words", ["simulate --json /", "twins --json /", "chaos --json /"])
def test_the_long_commands_look_first(outcry, words):
    done = outcry("devnet", *words.split())
    assert done.code == 2
    assert "cannot be written" in done.err
