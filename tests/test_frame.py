"""The project's files agree with each other and with the package."""

import ast
import importlib
import importlib.resources
import pathlib
import re
import subprocess
import sys
import tomllib
import types

import numpy as np
import pylops
import pytest
import xarray as xr
import yaml

import xlops as xl

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "xlops"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]

# conda-forge names that differ from those in pyproject.toml
CONDA_NAMES = {
    "cf-xarray": "cf_xarray",
    "dask[array]": "dask-core",
    "matplotlib": "matplotlib-base",
}
# what only a conda environment has to name
CONDA_ONLY = {"pip", "python"}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def split(requirement):
    """Name and version of a requirement: ``("dask[array]", ">=2025.12")``."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+(?:\[[a-z,]+\])?)([<>=!~][^;]*)", requirement)
    assert match, f"{requirement!r}: a name and a version are wanted"
    return match.groups()


def collected(requirements):
    versions = {}
    for name, version in map(split, requirements):
        known = versions.setdefault(name, version)
        assert known == version, f"{name} is asked for with {known} and {version}"
    return versions


def extras():
    return PROJECT["optional-dependencies"]


def fenced(language):
    """The code blocks of README.md in a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", read("README.md"), re.MULTILINE | re.DOTALL
    )


# --- dependencies ---------------------------------------------------------------------


def test_environment_is_pyproject_in_conda_names():
    required = [*PYPROJECT["build-system"]["requires"], *PROJECT["dependencies"]]
    for extra, requirements in extras().items():
        if extra != "all":
            required += requirements
    expected = {
        CONDA_NAMES.get(name, name): version
        for name, version in collected(required).items()
    }

    environment = yaml.safe_load(read("environment.yml"))
    listed = environment["dependencies"]
    assert all(isinstance(entry, str) for entry in listed)
    given = collected(e for e in listed if re.split("[<>=]", e)[0] not in CONDA_ONLY)
    assert given == expected
    assert len(listed) == len(given) + len(CONDA_ONLY), "a package is listed twice"
    assert f"python{PROJECT['requires-python']}" in listed
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge"]


def test_the_extra_all_holds_every_other_extra():
    (everything,) = extras()["all"]
    match = re.fullmatch(r"xlops\[(.*)\]", everything)
    assert match
    assert sorted(match[1].split(",")) == sorted(set(extras()) - {"all"})


def test_every_extra_asks_for_something():
    assert all(extras().values())


# --- the package ----------------------------------------------------------------------


def test_one_version():
    assert yaml.safe_load(read("CITATION.cff"))["version"] == xl.__version__
    assert f"## [{xl.__version__}]" in read("CHANGELOG.md")
    assert PROJECT["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "xlops/__init__.py"


def test_the_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").is_file()
    assert (importlib.resources.files("xlops") / "py.typed").is_file()


def test_public_names_are_there():
    assert xl.__all__
    missing = [name for name in xl.__all__ if not hasattr(xl, name)]
    assert not missing


def test_nothing_else_is_public():
    tree = ast.parse(read("xlops/__init__.py"))
    bound = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            if getattr(node, "module", None) != "__future__":
                bound |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
    assert {name for name in bound if not name.startswith("_")} <= set(xl.__all__)


@pytest.mark.parametrize("name", getattr(xl, "__all__", []))
def test_public_names_are_exported_where_they_are_defined(name):
    value = getattr(xl, name)
    home = getattr(value, "__module__", None)
    if isinstance(value, types.ModuleType) or home is None:
        return
    assert home.startswith("xlops.")
    assert name in importlib.import_module(home).__all__


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_exports_of_a_module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    exports = getattr(module, "__all__", None)
    if exports is None:
        return
    assert len(exports) == len(set(exports))
    assert all(hasattr(module, name) for name in exports)
    assert not any(n.startswith("_") for n in exports if n != "__version__")


def test_importing_is_silent_and_light():
    # In a new process, with warnings as errors: it prints nothing, sets up no logging
    # and leaves alone what is loaded when first used.
    code = """
import logging, sys
import xlops
heavy = "cf_xarray distributed h5netcdf h5py matplotlib numba pylops zarr"
print(*(name for name in heavy.split() if name in sys.modules), end="")
assert not logging.getLogger().handlers
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


# --- layers ---------------------------------------------------------------------------


def uses_of_dask_array(source):
    """Line numbers at which `dask.array` is imported, or used through `dask`."""

    def meant(name):
        return name == "dask.array" or name.startswith("dask.array.")

    lines = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found = any(meant(alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                found = any(
                    meant(module) or meant(f"{module}.{alias.name}") for alias in names
                )
            case ast.Attribute(value=ast.Name(id="dask"), attr="array"):
                found = True
            case ast.Call(args=[ast.Constant(value=str(name)), *_]):
                called = ast.unparse(node.func).split(".")[-1]
                found = called in {"import_module", "__import__"} and meant(name)
            case _:
                found = False
        if found:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import dask.array as da", True),
        ("def f():\n    from dask.array.core import Array", True),
        ("from dask import array", True),
        ("import dask\ndask.array.ones(3)", True),
        ("importlib.import_module('dask.array')", True),
        ("import dask, dask.tokenize", False),
        ("from dask import tokenize, persist", False),
        ("import xarray as array", False),
        ("'import dask.array'", False),
    ],
)
def test_uses_of_dask_array_are_found(source, found):
    assert bool(uses_of_dask_array(source)) is found


def test_only_the_engine_imports_dask_array():
    users = {
        path.relative_to(PACKAGE).as_posix(): lines
        for path in SOURCES
        if (lines := uses_of_dask_array(path.read_text(encoding="utf-8")))
    }
    assert users
    assert {user.split("/")[0] for user in users} == {"engine"}


# --- what a reader is told ------------------------------------------------------------


def test_readme_gives_two_commands():
    commands = "".join(fenced("sh")).splitlines()
    assert commands == [
        'pip install ".[demo]" && xlops demo',
        'pip install ".[test]" && pytest',
    ]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    links = re.findall(r"\]\(([^)#]+)", read(name))
    missing = [x for x in links if "://" not in x and not (ROOT / x).exists()]
    assert not missing


def test_readme_example_does_what_it_says(tmp_path, monkeypatch):
    time = xr.Variable("time", np.arange(20) * 0.004, {"units": "s", "note": "TWT"})
    offset = xr.Variable("offset", np.arange(64) * 12.5, {"units": "m"})
    values = np.random.default_rng(0).normal(size=(64, 20))
    d = xr.DataArray(
        values, {"offset": offset, "time": time}, attrs={"units": "Pa"}, name="pressure"
    )
    monkeypatch.chdir(tmp_path)
    d.to_netcdf("gather.nc", engine="h5netcdf")

    example, joined, clustered = fenced("python")
    names = {"p": pylops.Diagonal(np.arange(1.0, 21.0))}
    exec(compile(example, "README.md", "exec"), names)
    exec(compile(joined, "README.md", "exec"), names)
    exec(compile(clustered, "README.md", "exec"), names)

    rate, back, kept, again = (names[x] for x in ("rate", "back", "kept", "again"))
    assert rate.chunks is not None
    assert rate.attrs["units"] == "Pa s-1"
    for result in (rate, back):
        assert result.dims == d.dims
        for dim in d.dims:
            xr.testing.assert_identical(result.coords[dim], d.coords[dim])
    assert kept.sizes == {"offset": 32, "time": 20}
    assert again.attrs["units"] == "Pa"
    inner = (values[:, 2:] - values[:, :-2]) / 0.008
    np.testing.assert_allclose(rate.values[:, 1:-1], inner)
    np.testing.assert_allclose((names["Dt"] @ again).values, rate.values, atol=1e-2)
    np.testing.assert_array_equal(names["P"] @ d, values * np.arange(1.0, 21.0))
    made = names["flat"].matvec(values.ravel())
    expected = [values[:32].ravel(), (names["Dt"] @ d).values.ravel()]
    np.testing.assert_array_equal(made, np.concatenate(expected))
    x = (names["R"] @ names["Dt"] @ names["solution"].x).values
    np.testing.assert_allclose(x, kept.values, atol=1e-2)


def test_hooks_are_local_and_run_in_ci_too():
    hooks = []
    for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]:
        assert repo["repo"] == "local"
        hooks += repo["hooks"]
    lines = read(".ci/run").splitlines()
    for hook in hooks:
        assert hook["language"] == "system"
        assert any(line.startswith(hook["name"]) for line in lines)
