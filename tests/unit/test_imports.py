"""Who imports whom: the directions that keep the parts apart."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {"ryu", "os_ken"}
DOORS = {"ryu_apps/framework.py", "ryu_apps/manager.py"}
PURE = {
    "__future__", "abc", "bisect", "collections", "collections.abc", "dataclasses", "enum", "functools", "hashlib",
    "heapq", "ipaddress", "itertools", "math", "operator", "struct", "typing",
}  # fmt: skip
# by files that the controller alone imports
OTHERS = {"topology/graph.py": {"networkx"}, "topology/etcd.py": {"etcd3gw", "requests"}}
SIDE_EFFECTS = {"open", "print", "input", "exec", "eval", "__import__"}


def sources(folder: str) -> Iterator[tuple[str, ast.Module]]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"nothing in {folder}"
    for path in found:
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that are imported anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                # what is imported from a package of ours may be a module itself
                part = f"{node.module}.{alias.name}"
                yield part if (ROOT / part.replace(".", "/")).with_suffix(".py").exists() else node.module


def within(module: str, *packages: str) -> bool:
    return any(module == p or module.startswith(f"{p}.") for p in packages)


def test_topology_needs_little_more_than_the_standard_library() -> None:
    """The model could not be used by the agent, by tools and by tests without a controller's dependencies."""
    for path, tree in sources("topology"):
        more = {"topology", "msgspec", *OTHERS.get(path, ())}
        for module in imports(tree):
            assert module.partition(".")[0] in sys.stdlib_module_names | more, f"{path} imports {module}"


@pytest.mark.parametrize(("folder", "other"), [("netctl", "ryu_apps"), ("ryu_apps", "netctl"), ("topology", "netctl")])
def test_controller_and_client_do_not_know_each_other(folder: str, other: str) -> None:
    """The agent would load the OpenFlow framework, or the two had to be upgraded together."""
    for path, tree in sources(folder):
        assert not [m for m in imports(tree) if within(m, other)], path


def test_what_the_model_needs_knows_no_store() -> None:
    """Who has his model in a file would need the libraries for etcd."""
    for path, tree in sources("topology"):
        if path not in {f"topology/{name}.py" for name in ("etcd_store", "stores", "election", "announced")}:
            assert not [m for m in imports(tree) if within(m, "topology.etcd", "topology.etcd_store")], path


@pytest.mark.parametrize("folder", ["netctl", "ryu_apps", "topology"])
def test_the_framework_is_named_at_its_doors_only(folder: str) -> None:
    """A change of the framework would be a change all over the program, and Ryu and os-ken would not both do."""
    for path, tree in sources(folder):
        if path in DOORS:
            continue
        named = [m for m in imports(tree) if within(m, *FRAMEWORKS)]
        named += [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and within(node.value, *FRAMEWORKS)
        ]
        assert not named, f"{path} names {named}"


def test_the_pipeline_is_pure() -> None:
    """What is in a switch could depend on more than the model: on a clock, a file, or what was there before."""
    for path, tree in sources("ryu_apps/pipeline"):
        for module in imports(tree):
            assert module in PURE or within(module, "ryu_apps.pipeline", "topology"), f"{path} imports {module}"
        called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        assert not called & SIDE_EFFECTS, path


def test_the_comparison_is_pure() -> None:
    """What is sent could depend on more than what is wanted and what is there."""
    tree = ast.parse((ROOT / "ryu_apps/diff.py").read_text())
    for module in imports(tree):
        assert module in PURE or within(module, "ryu_apps.openflow.codec"), module


def test_the_codec_knows_values_only() -> None:
    """The messages would know of tenants and services, and a change of the model would change them."""
    known = (
        "ryu_apps.openflow", "ryu_apps.framework", "ryu_apps.pipeline.values", "ryu_apps.pipeline.fields",
        "topology.complaints", "topology.rate",
    )  # fmt: skip
    for path, tree in sources("ryu_apps/openflow"):
        for module in imports(tree):
            if within(module, "ryu_apps", "topology", "netctl"):
                assert within(module, *known), f"{path} imports {module}"


def test_the_scripts_do_not_hide_mininet() -> None:
    """``import mininet`` would find our folder instead of the installed package."""
    assert not (ROOT / "mininet" / "__init__.py").exists()
