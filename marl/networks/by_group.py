"""Modules by the names of agent groups, which an environment chooses and which may be any text."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping

from torch import nn

_RESERVED = nn.ModuleDict()  # its attributes are the names that torch refuses for a module


def module_key(name: str) -> str:
    """Returns the name of a group's module in ``state_dict``.

    It is the group's own name, or another where torch refuses that (``train``, ``drone.1``).
    """
    if name and "." not in name and not hasattr(_RESERVED, name):
        return name
    return "group:" + name.replace("%", "%25").replace(".", "%2E")


class ByGroup(nn.ModuleDict):
    """A ``ModuleDict`` whose keys are names of groups.

    Args:
        modules: the modules by the names of the groups, which ``state_dict`` replaces by
            ``module_key``.
    """

    def __init__(self, modules: Mapping[str, nn.Module]):
        super().__init__()
        self.names: dict[str, str] = {}  # group -> key
        for name, module in modules.items():
            self[name] = module

    def __setitem__(self, name: str, module: nn.Module) -> None:
        self.names[name] = module_key(name)
        self.add_module(self.names[name], module)

    def __getitem__(self, name: str) -> nn.Module:
        return self._modules[self.names[name]]  # type: ignore[return-value]  # none is None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def keys(self) -> KeysView[str]:
        return self.names.keys()

    def items(self) -> ItemsView[str, nn.Module]:
        return {name: self[name] for name in self.names}.items()
