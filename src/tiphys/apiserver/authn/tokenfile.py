"""Static tokens from a file: ``token,user,uid,"group1,group2"`` per line.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#static-token-file
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from tiphys.apiserver.call import User


class StaticTokens:
    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = dict(users)

    async def user_of(self, token: str) -> User | None:
        return self._users.get(token)


def read_users(path: Path) -> dict[str, User]:
    """The bearers of the tokens in a file. Raises ``ValueError`` for a line that has too few columns, naming it."""
    users: dict[str, User] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file, skipinitialspace=True), 1):
            if len(row) < 3 or not row[0]:
                raise ValueError(f"{path}:{number}: a token line needs a token, a user and a uid")
            groups = tuple(row[3].split(",")) if len(row) > 3 and row[3] else ()
            users[row[0]] = User(row[1], groups, row[2])
    return users
