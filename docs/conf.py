"""How the documentation is built; CONTRIBUTING.md says with which command."""

import os
import pathlib
import shutil

import sphinx_autosummary_accessors
from docutils import nodes
from docutils.utils.math import latex2mathml

import xlops

HERE = pathlib.Path(__file__).parent
# Cells may ask the model of `benchmarks`.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")])
)

project = "xlops"
author = "xlops developers"
version = release = xlops.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_autosummary_accessors",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "inventories"]
templates_path = ["_templates", sphinx_autosummary_accessors.templates_path]

# --- pages: every result that they show has just been computed ------------------------

nb_execution_mode = "force"
nb_execution_in_temp = True  # what cells write is gone afterwards
nb_execution_show_tb = True
nb_render_markdown_format = "gfm"  # with tables
nb_execution_timeout = 300
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# --- reference: from docstrings -------------------------------------------------------

default_role = "autolink"  # a link where a name is one of ours, else plain words
autodoc_typehints = "none"  # docstrings say them in words
numpydoc_show_class_members = False  # templates say where
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # words
numpydoc_xref_aliases = {
    "DataArray": "xarray.DataArray",
    "Dataset": "xarray.Dataset",
    "quantity": "pint.Quantity",
    **{name: f"xlops.{name}" for name in xlops.__all__ if name[0].isupper()},
}
# All but these: short docstrings may leave sections out, and begin as they like.
numpydoc_validation_checks = {"all", "ES01", "EX01", "PR01", "PR04", "PR08", "RT01", "RT03"}
numpydoc_validation_checks |= {"SA01", "SA03", "SS05"}
numpydoc_validation_exclude = {r"xlops\.set_options"}  # its settings are one **argument

# --- links to other projects ----------------------------------------------------------

# Inventories are kept here, so that no network is needed; inventories/README.md.
intersphinx_mapping = {
    name: (url, f"inventories/{name}.inv")
    for name, url in {
        "dask": "https://docs.dask.org/en/stable/",
        "matplotlib": "https://matplotlib.org/stable/",
        "numpy": "https://numpy.org/doc/stable/",
        "pint": "https://pint.readthedocs.io/en/stable/",
        "pylops": "https://pylops.readthedocs.io/en/stable/",
        "python": "https://docs.python.org/3/",
        "scipy": "https://docs.scipy.org/doc/scipy/",
        "xarray": "https://docs.xarray.dev/en/stable/",
    }.items()
}

# --- HTML -----------------------------------------------------------------------------

html_theme = "furo"
html_title = f"xlops {release}"
pygments_dark_style = "github-dark"
html_static_path = ["_static"]
html_css_files = ["xlops.css"]
html_copy_source = False
html_math_renderer = "mathml"  # browsers know it: no scripts from elsewhere


def _math(block):
    def visit(self, node):
        self.body.append(latex2mathml.tex2mathml(node.astext(), as_block=block))
        raise nodes.SkipNode

    return visit, None


def setup(app):
    """Formulas as MathML; tutorials lie outside of this folder, and are copied into it."""
    app.add_html_math_renderer("mathml", _math(block=False), _math(block=True))
    shutil.copytree(HERE.parent / "tutorials", HERE / "tutorials", dirs_exist_ok=True)
