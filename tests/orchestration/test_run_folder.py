"""Folders of runs: one for each request, an earlier one resumed, nothing of another run overwritten."""

import pytest

from ptychoflow.orchestration.run_folder import file_state, find_folder, locked, new_folder


def _made(path, request, numbered=True):
    folder = find_folder(path, request, numbered)
    with new_folder(folder, request) as fresh:
        fresh.config.write_text("scans: {}\n")
    return folder


def test_the_same_request_finds_its_folder_again(tmp_path):
    first = _made(tmp_path / "a.h5.ptychoflow", {"epochs": 20})
    again = find_folder(first.path, {"epochs": 20}, numbered=True)
    assert again.resumed and again.path == first.path and again.config.is_file()


def test_other_settings_get_a_folder_of_their_own_and_find_it_again(tmp_path):
    first = _made(tmp_path / "a.h5.ptychoflow", {"epochs": 20})
    second = _made(first.path, {"epochs": 30})
    assert second.path.name == "a.h5.2.ptychoflow" and not second.resumed
    assert find_folder(first.path, {"epochs": 30}, numbered=True).path == second.path


def test_a_named_folder_of_another_run_is_refused(tmp_path):
    _made(tmp_path / "mine", {"epochs": 20})
    with pytest.raises(ValueError, match="other settings"):
        find_folder(tmp_path / "mine", {"epochs": 30}, numbered=False)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        find_folder(tmp_path, {}, numbered=True)


def test_an_error_while_a_folder_is_prepared_leaves_nothing(tmp_path):
    folder = find_folder(tmp_path / "a", {}, numbered=True)
    with pytest.raises(ValueError, match="damaged"), new_folder(folder, {}):
        raise ValueError("damaged")
    assert not list(tmp_path.iterdir())


def test_a_changed_file_is_another_request(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"1")
    before = file_state(tmp_path / "a.h5")
    assert before == file_state(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_bytes(b"12")
    assert before != file_state(tmp_path / "a.h5")


def test_a_folder_is_used_by_one_run_at_a_time(tmp_path):
    with locked(tmp_path), pytest.raises(ValueError, match="in use by another run"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
