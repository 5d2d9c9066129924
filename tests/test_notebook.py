"""What notebooks show: pages and pictures."""

import html
import pickle
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import dask
import numpy as np
import pytest
import xarray as xr

import xlops as xl
from xlops.notebook.blocks import LabeledBlocks
from xlops.solvers.report import history_svg

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"br", "img", "input", "hr", "meta", "link"}
NASTY = "<script>alert('&\"')</script>"


class Page(HTMLParser):
    """Reads a page: checks that all tags are closed, keeps tags and what can be seen."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.seen, self.shown = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("class")))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if any(tag == "style" for tag, _ in self.open):
            return
        fallback = any(str(kind).endswith("-fallback") for _, kind in self.open)
        if fallback or ("pre", "xlops-text") in self.open:
            return
        self.shown.append(data)

    @property
    def text(self):
        """What the page shows, without what stands in for it."""
        return re.sub(r"\s+", " ", "".join(self.shown))

    def count(self, tag, kind=None):
        return sum(
            name == tag and kind in (None, attrs.get("class")) for name, attrs in self.tags
        )


def read(obj):
    return Page(obj._repr_html_())


def picture(diagram):
    """Roots of both forms of a picture: its own and that in a page."""
    (inline,) = re.findall(r"<svg.*</svg>", diagram._repr_html_())
    Page(diagram._repr_html_())
    return ET.fromstring(diagram._repr_svg_()), ET.fromstring(inline)


def words(root):
    return [element.text for element in root.iter(f"{SVG}text")]


def boxes(root):
    return len(list(root.iter(f"{SVG}rect")))


def joins(root):
    return len(list(root.iter(f"{SVG}circle")))


@pytest.fixture
def d():
    time = xr.Variable("time", 0.004 * np.arange(30), {"units": "s", "note": "two-way"})
    offset = xr.Variable("offset", 12.5 * np.arange(12.0), {"units": "m"})
    values = np.random.default_rng(0).standard_normal((12, 30))
    coords = {"offset": offset, "time": time, "fold": ("offset", np.arange(12))}
    return xr.DataArray(values, coords, ("offset", "time"), "p", {"units": "Pa"})


@pytest.fixture
def stack(d):
    return xl.VStack(
        {
            "data": xl.Restriction(d.offset, [0, 3, 5, 7]) @ xl.FirstDerivative(d.time),
            "smooth": 0.5 * xl.SecondDerivative(d.offset),
        }
    )


@pytest.fixture
def idle():
    """Dask that does not compute."""

    def refuse(*args, **kwargs):
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        yield


# --- operators ------------------------------------------------------------------------


def test_an_operator(d):
    page = read(xl.FirstDerivative(d.time, kind="forward"))
    assert "xlops.FirstDerivative" in page.text
    assert "(time: 30) → (time: 30)" in page.text
    assert "30 × 0.004 s [0 … 0.116]" in page.text
    assert "note: two-way" in page.text
    assert "same as domain" in page.text
    assert "Units:s-1" in page.text
    assert "Traits:complex-linear" in page.text
    assert "kind='forward'" in page.text


def test_sides_and_traits(d):
    page = read(xl.FFT(d.time, real=True))
    assert "(time: 30) → (freq_time: 16)" in page.text
    assert "linear over real numbers only" in page.text
    assert "same as domain" not in page.text
    page = read(xl.Restriction(d.offset, [1, 2]))
    assert "(offset: 12) → (offset: 2)" in page.text
    assert "fold(offset) int64" in page.text
    assert "indices=array (2,) int64" in page.text
    assert "positive, symmetric" in read(xl.Restriction(d.offset, [1, 2]).gram).text


def test_a_product_shows_its_factors_in_order(d):
    A = xl.FFT(d.time) @ xl.Restriction(d.offset, [0, 5]) @ xl.FirstDerivative(d.time)
    page = read(A)
    assert page.count("details", "xlops-part") == 3
    names = ["FFT(time)", "Restriction(offset)", "FirstDerivative(time)"]
    places = [page.text.rindex(name) for name in names]
    assert places == sorted(places)
    assert "Factors:3, the last one acts first" in page.text
    adjoint = read(A.H)
    places = [adjoint.text.rindex(f"{name}.H") for name in names]
    assert places == sorted(places, reverse=True)


def test_sums_and_numbers(d):
    I, D = xl.Identity(d.time), xl.SecondDerivative(d.offset)
    page = read((2 * I - xl.Smoothing1D(d.time, 3)) @ D)
    assert "Terms:2" in page.text
    assert "Scaled:by 2" in page.text
    assert "Scaled:by -1" in page.text
    assert page.count("details", "xlops-part") == 2 + 2 + 2


def test_stacks(d, stack):
    page = read(stack)
    assert "data = Restriction(offset) @ FirstDerivative(time)" in page.text
    assert "{data (offset: 4, time: 30), smooth (offset: 12, time: 30)}" in page.text
    assert "Units:data s-1, smooth m-2" in page.text
    assert "Blocks:2" in page.text
    assert "Blocks:2" in read(stack.H).text
    assert "Restriction(offset).H" in read(stack.H).text


def test_modes(d):
    page = read(xl.FirstDerivative(d.time).evaluate(adjoint=False).chunked(offset=3))
    assert "forward results computed at once" in page.text
    assert "chunks (offset: 3)" in page.text
    assert "xlops.FirstDerivative" in page.text


def test_deep_nesting_ends_somewhere(d):
    A = xl.Identity(d.time)
    for _ in range(40):
        A = 2 * (xl.Smoothing1D(d.time, 3) + A @ A.H)
        if len(str(A)) > 20_000:
            break
    page = A._repr_html_()
    read(A)
    assert "more" in page
    assert Page(page).count("details", "xlops-part") <= 300
    for root in picture(A.visualize()):
        assert boxes(root) <= 200


# --- escaping -------------------------------------------------------------------------


def test_nothing_that_users_name_is_html(d):
    odd = d.rename(time=NASTY).assign_attrs(units=NASTY)
    odd = odd.assign_coords({NASTY: odd[NASTY].assign_attrs({NASTY: NASTY})})
    D = xl.FirstDerivative(odd[NASTY], name=NASTY)
    S = xl.VStack({NASTY: D, "b": xl.Identity(odd)})
    with pytest.warns(xl.UnitWarning):
        shown = [S @ odd, D.explain(odd.chunk()), D.visualize(odd), S.visualize()]
    pictures = shown[2:]
    shown += [D, D.H @ D, S, S.H, D.domain, S.range]
    R = xl.Restriction(odd[NASTY], [1, 2])
    shown.append(xl.cgls(R, R @ odd, niter=1))
    for obj in shown:
        assert "<script" not in obj._repr_html_()
        assert "script" not in {tag for tag, _ in read(obj).tags}
    for diagram in pictures:
        for root in picture(diagram):
            assert any(str(text).startswith("<script>alert(") for text in words(root))
            assert not list(root.iter(f"{SVG}script"))


# --- spaces, blocks, plans, solutions -------------------------------------------------


def test_spaces(d, stack):
    page = read(xl.Space.of(d, kind="real"))
    assert "(offset: 12, time: 30)" in page.text
    assert "12 × 12.5 m [0 … 137.5]" in page.text
    assert "valuesreal" in page.text
    assert "no dims" in read(xl.Space({})).text
    page = read(stack.range)
    assert page.count("details", "xlops-section") == 2
    assert "4 uneven m [0 … 87.5]" in page.text


def test_results_in_blocks(d, stack):
    result = stack @ d
    assert type(result) is LabeledBlocks
    plain = dict(result)
    assert repr(result) == repr(plain)
    back = pickle.loads(pickle.dumps(result))
    assert type(back) is LabeledBlocks
    assert list(back) == list(plain) == ["data", "smooth"]
    assert all(back[name].identical(plain[name]) for name in plain)
    assert LabeledBlocks(a=1) == {"a": 1}
    page = read(result)
    assert "data(offset: 4, time: 30) float64 Pa s-1" in page.text
    assert page.text.count("xarray.DataArray") == 2


def test_dask_takes_blocks_for_what_they_are(d, stack):
    eager, lazy = stack @ d, stack @ d.chunk(offset=5)
    lazy["more"] = d
    assert dask.is_dask_collection(lazy)
    assert not dask.is_dask_collection(eager)
    (done,) = dask.compute(lazy)
    (kept,) = dask.persist(lazy)
    (again,) = dask.optimize(lazy)
    assert list(done) == list(kept) == ["data", "smooth", "more"]
    assert dask.delayed(sorted)(lazy).compute() == sorted(lazy)
    for name, block in eager.items():
        assert done[name].chunks is None
        assert kept[name].chunks == lazy[name].chunks
        for other in (done, kept, again):
            xr.testing.assert_allclose(other[name], block, rtol=1e-13)
            assert other[name].attrs == block.attrs
    assert done["more"] is not None
    assert dask.base.tokenize(lazy) == dask.base.tokenize(
        stack @ d.chunk(offset=5) | {"more": d}
    )
    assert stack.evaluate()(d.chunk(offset=5))["data"].chunks is None


def test_plans(d):
    A = xl.FFT(d.time) @ xl.FirstDerivative(d.time)
    plan = A.explain(d.chunk(offset=4))
    page = read(plan)
    assert page.count("tr") == 1 + len(plan.rows)
    assert f"{plan.tasks} tasks" in page.text
    assert "on Dask" in page.text
    assert "Pa → Pa s-1" in page.text
    assert "NumPy" in read(A.explain(d)).text


def test_solutions(d):
    R = xl.Restriction(d.offset, [0, 3, 5, 7])
    stack = xl.VStack({"data": R, "smooth": xl.Smoothing1D(d.offset, 3)})
    y = stack @ d
    solution = xl.cgls(stack, y, niter=4, tol=0)
    page = read(solution)
    assert "xlops.Solution" in page.text
    assert "cgls" in page.text
    assert "not converged after 4 iterations" in page.text
    assert solution.reason.value in page.text
    norms = solution.history.residual_norm.values
    assert f"residual norm {norms[0]:.4g} → {norms[-1]:.4g}" in page.text
    assert page.text.count("xarray.DataArray") == 1 + 2
    assert page.count("polyline") == 2
    assert page.text.index("x:(offset: 12") < page.text.index("residual:data, smooth")
    converged = xl.cgls(R, R @ d, tol=1e-3)
    assert converged.converged
    assert "cglsconverged after 1 iterationStopped" in read(converged).text


def history(**norms):
    return xr.Dataset(
        {name: ("iteration", values) for name, values in norms.items()}
    ).assign(iteration=np.arange(len(next(iter(norms.values())))))


def points(svg):
    return [
        [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
        for line in ET.fromstring(svg).iter(f"{SVG}polyline")
    ]


def test_curves_are_logarithmic():
    (curve,) = points(history_svg(history(residual_norm=[8.0, 0.8, 0.08, 0.008])))
    steps = np.diff(np.asarray(curve), axis=0)
    assert (np.ptp(steps, axis=0) <= 0.2 + 1e-9).all()  # rounded to a tenth of a pixel
    assert (steps > 0).all()


@pytest.mark.parametrize(
    ("norms", "drawn"),
    [([1.0, 0.0, 0.0], 1), ([1.0, np.nan, 0.5], 2), ([0.0, 0.0], 0), ([1.0, 1.0], 2)],
)
def test_curves_without_what_has_no_logarithm(norms, drawn):
    text = history_svg(history(residual_norm=norms))
    assert sum(map(len, points(text)) if "<svg" in text else [0]) == drawn
    assert "nan" not in text
    assert "inf" not in text


def test_long_histories_stay_small():
    (curve,) = points(history_svg(history(residual_norm=np.linspace(1, 0.1, 100_000))))
    assert len(curve) <= 1000


# --- what pages have in common --------------------------------------------------------


def examples(d, stack):
    A = xl.FFT(d.time) @ stack.H
    R = xl.Restriction(d.offset, [1, 2])
    lazy = d.chunk(offset=5)
    return [A, stack, stack.domain, stack.range, stack @ d, stack.explain(lazy)] + [
        xl.cgls(R, R @ d, niter=2)
    ]


def test_pages_without_styles_show_text(d, stack):
    for obj in examples(d, stack):
        page = obj._repr_html_()
        assert f'<pre class="xlops-text">{html.escape(repr(obj))}</pre>' in page
        assert '<div class="xlops" style="display:none">' in page
        assert page.count("<style>") - page.count("xr-text-repr-fallback'>") == 1
        tags = Page(page).tags
        assert not any(name.startswith("on") for _, attrs in tags for name in attrs)


def test_text_where_xarray_shows_text(d, stack):
    for obj in examples(d, stack):
        with xr.set_options(display_style="text"):
            page = obj._repr_html_()
        assert page == f"<pre>{html.escape(repr(obj))}</pre>"


def test_nothing_is_computed(d, stack, idle):
    lazy = d.chunk(offset=5).assign_coords(
        depth=("offset", dask.array.ones(12, chunks=5)),
    )
    weights = xl.Diagonal(lazy)
    assert "depth(offset) float64" in read(weights).text
    chain = stack @ weights
    for obj in (chain, chain.H, chain.range, chain.domain, chain @ lazy):
        read(obj)
    read(chain.explain(lazy))
    for root in picture(chain.visualize(lazy)):
        assert boxes(root)


# --- pictures -------------------------------------------------------------------------


def test_a_chain_flows_as_it_is_written(d):
    A = xl.FFT(d.time) @ xl.Restriction(d.offset, [0, 5]) @ xl.FirstDerivative(d.time)
    for root in picture(A.visualize()):
        assert boxes(root) == 3
        assert joins(root) == 0
        places = {
            element.text: float(element.get("x")) for element in root.iter(f"{SVG}text")
        }
        names = ["FFT(time)", "Restriction(offset)", "FirstDerivative(time)"]
        assert sorted(names, key=places.get) == names
        assert "freq_time: 30" in places
        assert words(root).count("offset: 2") == 2
        assert words(root).count("offset: 12") == 2
        assert "· s-1" in places


def test_data_bring_dims_and_units(d):
    shots = d.expand_dims(shot=5)
    for root in picture(xl.FirstDerivative(d.time).visualize(shots)):
        assert words(root).count("shot: 5") == 2
        assert words(root).count("Pa") == words(root).count("Pa s-1") == 1
    with pytest.raises(xl.LabelError, match="dim 'time' is missing"):
        xl.FirstDerivative(d.time).visualize(d.isel(time=0))


def test_sums_meet_and_stacks_stay_apart(d, stack):
    total = xl.Identity(d.time) + xl.Smoothing1D(d.time, 3)
    for root in picture(total.visualize()):
        assert (boxes(root), joins(root)) == (2, 1)
    for root in picture(stack.visualize(d)):
        assert (boxes(root), joins(root)) == (4, 0)
        assert {"data", "smooth", "Pa s-1", "Pa m-2", "× 0.5"} <= set(words(root))
    for root in picture(stack.H.visualize()):
        assert (boxes(root), joins(root)) == (4, 1)
        assert {"data", "smooth"} <= set(words(root))
    same = xl.VStack({"a": xl.Identity(d), "b": xl.Smoothing1D(d.time, 3)})
    for root in picture(same.gram.visualize()):
        assert (boxes(root), joins(root)) == (4, 1)
        assert words(root).count("a") == 1
    inside = xl.Smoothing1D(d.time, 3) @ xl.Gradient(d.offset, d.time).H
    for root in picture(inside.visualize()):
        assert boxes(root) == 2  # with a name of its own, it is one box


def test_blocks_on_both_sides(d):
    S, D = xl.Smoothing1D(d.time, 3), xl.Smoothing1D(d.offset, 5)
    I, R = xl.Identity(d), xl.Restriction(d.offset, [0, 3])
    x = {"u": d, "v": d}
    wide = xl.HStack({"u": S, "v": D})
    diagonal = xl.BlockDiag({"u": S, "v": R})
    even = xl.BlockDiag({"u": D @ S, "v": S @ D})
    square = xl.Block({"a": {"u": S, "v": D}, "b": {"u": R, "v": R @ I}})
    for A, given, made in [
        (wide, 2, (2, 1)),
        (diagonal, 2, (2, 0)),
        (square, 4, (5, 2)),
        (square.H, 4, (5, 2)),
        (wide @ even, 2, (6, 1)),
    ]:
        page = read(A)
        assert f"Blocks:{given}" in page.text or "Factors:2" in page.text
        for root in picture(A.visualize()):
            assert (boxes(root), joins(root)) == made
            inside(root)
            apart(root)
    assert "u → a = Smoothing1D(time)" in read(square).text
    for root in picture(square.visualize(x)):
        assert words(root).count("Pa") >= 4


def test_numbers_stand_where_they_act(d):
    def pill(A, name):
        root, _ = picture(A.visualize())
        places = {e.text: float(e.get("x")) for e in root.iter(f"{SVG}text")}
        (number,) = (text for text in places if text.startswith("×"))
        return number, places[number] < places[name]

    D = xl.FirstDerivative(d.time)
    assert pill(3 * D, "FirstDerivative(time)") == ("× 3", True)
    assert pill(2j * D, "FirstDerivative(time)") == ("× 2j", True)
    assert pill((2j * D).H, "FirstDerivative(time).H") == ("× -2j", False)
    assert pill(xl.units.registry()("2 m") * D, "FirstDerivative(time)")[0] == "× 2 m"


def test_long_names_are_cut_but_told(d):
    name = "a name that is much longer than any box should be"
    for root in picture(xl.Identity(d.time, name=name).visualize()):
        assert name not in words(root)
        assert any(str(text).endswith("…") for text in words(root))
        titles = [element.text for element in root.iter(f"{SVG}title")]
        assert any(name in title for title in titles)


def inside(root):
    """Whether all rectangles and the middle of all texts are in the picture."""
    width, height = float(root.get("width")), float(root.get("height"))
    for box in root.iter(f"{SVG}rect"):
        x, y = float(box.get("x")), float(box.get("y"))
        assert 0 <= x <= x + float(box.get("width")) <= width
        assert 0 <= y <= y + float(box.get("height")) <= height
    for element in root.iter(f"{SVG}text"):
        half = 0.301 * float(element.get("font-size")) * len(element.text)
        x, y = float(element.get("x")), float(element.get("y"))
        assert 0 <= x - half <= x + half <= width
        assert float(element.get("font-size")) * 0.7 <= y <= height


def apart(root):
    """No two boxes overlap, and no two texts."""
    rooms = [
        tuple(float(box.get(key)) for key in ("x", "y", "width", "height"))
        for box in root.iter(f"{SVG}rect")
    ]
    texts = []
    for element in root.iter(f"{SVG}text"):
        size = float(element.get("font-size"))
        wide = 0.602 * size * len(element.text)
        left, top = (
            float(element.get("x")) - wide / 2,
            float(element.get("y")) - 0.75 * size,
        )
        texts.append((left, top, wide, 0.75 * size))
    for items in (rooms, texts):
        for i, (x, y, w, h) in enumerate(items):
            for a, b, c, e in items[i + 1 :]:
                assert x + w <= a or a + c <= x or y + h <= b or b + e <= y


def test_nothing_overlaps_or_leaves_the_picture(d, stack):
    S, R = xl.Smoothing1D(d.time, 3), xl.Restriction(d.offset, [0, 3, 5])
    deep = R.H @ (R @ (S + S @ (2 * S + S.H @ S)) @ (S + 3 * xl.Identity(d)))
    ops = [S, deep, deep.H, stack, stack.H, stack @ deep, xl.Gradient(d.offset, d.time)]
    ops += [xl.VStack({"a": deep, "b": S, "c": R}), xl.FFT(d.time) @ stack.H]
    for A in ops:
        for root in picture(A.visualize()):
            inside(root)
            apart(root)


def test_pictures_are_saved(d, tmp_path):
    diagram = xl.FirstDerivative(d.time).visualize()
    assert repr(diagram) == "<Diagram of FirstDerivative(time)>"
    diagram.save(tmp_path / "A.svg")
    root = ET.parse(tmp_path / "A.svg").getroot()
    assert root.tag == f"{SVG}svg"
    assert "FirstDerivative(time)" in words(root)
    assert "prefers-color-scheme" in next(root.iter(f"{SVG}style")).text
    assert "style" not in diagram._repr_html_().split("<svg")[1]
