"""The file of users: what is a list of them, and when it is looked at again."""

from __future__ import annotations

from pathlib import Path

import pytest

from csrc.binding import User
from gateway.users import UsersFile, UsersUnreadable, users_of


@pytest.mark.parametrize(
    ("text", "users"),
    [
        (b'[{"name":"ada","rpm":1,"tpm":2}]', {"ada": User(1, 2)}),
        (b'[{"name":" ada ","rpm":null}]', {"ada": User()}),
        (b"- name: ada\n  rpm: 3\n- name: bob\n", {"ada": User(3), "bob": User()}),
        (b"[]", {}),
        (b"", {}),
    ],
)
def test_a_list_of_records_is_read(text: bytes, users: dict[str, User]) -> None:
    assert users_of(text) == users


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{}", "no list"),
        (b"[1]", "record 0 is no object"),
        (b'[{"name":""}]', "record 0 has no name"),
        (b'[{"name":"a"},{"name":"b","rpm":-1}]', "record 1: rpm is no number"),
        (b'[{"name":"b","tpm":true}]', "record 0: tpm"),
        (b"\x00[", "neither JSON nor YAML"),
    ],
)
def test_what_is_no_list_of_users_says_where(text: bytes, reason: str) -> None:
    with pytest.raises(UsersUnreadable, match=reason):
        users_of(text)


def test_a_file_is_read_when_it_is_another_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    file = UsersFile(path)
    assert file.changed() is None
    path.write_text('[{"name":"ada"}]')
    assert file.changed() == {"ada": User()}
    assert file.changed() is None
    path.write_text("{broken")
    assert file.changed() is None
    fresh = tmp_path / "fresh"
    fresh.write_text('[{"name":"bob"}]')
    fresh.replace(path)
    assert file.changed() == {"bob": User()}
