"""The `devnet` group, imported only when one of its commands is asked for."""

from importlib import import_module, util
from typing import Any

import typer
from typer.core import TyperGroup

_MODULE = "cli.devnet"


class DevnetGroup(TyperGroup):
    """Shows the commands of `cli.devnet.app` as its own; none while that is not installed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the group's commands."""
        group = self._group()
        return [] if group is None else group.list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One command of the group, or None."""
        group = self._group()
        return None if group is None else group.get_command(ctx, cmd_name)

    def _group(self) -> TyperGroup | None:
        if util.find_spec(_MODULE) is None:
            return None
        app: typer.Typer = import_module(_MODULE).app
        return typer.main.get_group(app)
