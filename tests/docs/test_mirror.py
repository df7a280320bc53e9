"""Every module has its tests where one looks for them: `addon/usagetap/a/b.py` in `tests/unit/a/test_b.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE, UNIT = ROOT / "addon/usagetap", ROOT / "tests/unit"

#: tested elsewhere, and why there: below `tests/`
ELSEWHERE = {
    # one room, one interface: assemble(body)
    **dict.fromkeys(
        ("assembly/answer", "assembly/anthropic", "assembly/gemini", "assembly/openai", "assembly/others"),
        "unit/test_assembly.py",
    ),
    # hooks and what they share mean something inside a proxy only
    "mitm/tap": "mitm/test_ends.py",
    "mitm/recording": "mitm/test_faults.py",
    "mitm/websocket": "mitm/test_websocket.py",
    "mitm/retry": "mitm/test_retry.py",
    "store/resolved": "mitm/test_resolve.py",  # asked of a real upstream, written by a real store
    "report/refusals": "unit/report/test_commands.py",  # a command, run as one
    "turns/base": "unit/turns/test_openai.py",  # what the protocols inherit
    "turns/__init__": "property/test_dialects.py",  # which socket speaks what
    "upstream/__init__": "unit/upstream/test_server.py",  # names alone
}


def _modules() -> list[str]:
    """Modules with something in them, as paths without `.py`."""
    return [
        path.relative_to(PACKAGE).with_suffix("").as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "__init__.py" or len(path.read_text(encoding="utf-8").splitlines()) > 12
    ]


def _mirror(module: str) -> Path:
    folder, _, name = module.rpartition("/")
    if name == "__init__":  # a package is tested beside it
        return UNIT / Path(folder).parent / f"test_{Path(folder).name}.py"
    return UNIT / folder / f"test_{name.strip('_')}.py"


MODULES = _modules()


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_its_tests(module: str) -> None:
    mirror = _mirror(module)
    if module.startswith("dialects/") and not mirror.exists():
        return  # a fold without a choice of its own is its captures, and every dialect has some
    if module in ELSEWHERE and not mirror.exists():
        assert (ROOT / "tests" / ELSEWHERE[module]).exists(), f"{module}: its tests are gone from {ELSEWHERE[module]}"
    else:
        assert mirror.exists(), f"{module}: write {mirror.relative_to(ROOT)}"


def test_every_test_has_its_module() -> None:
    mirrors = {_mirror(module) for module in MODULES}
    orphans = [path for path in sorted(UNIT.rglob("test_*.py")) if path not in mirrors]
    assert [path.relative_to(ROOT).as_posix() for path in orphans] == []


def test_exceptions_are_needed() -> None:
    unneeded = [module for module in ELSEWHERE if module not in MODULES or _mirror(module).exists()]
    assert unneeded == [], "take them off the list"
