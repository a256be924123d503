"""Draws a Vega-Lite dict as an SVG element that fits a page of any colour. Knows no chart and no block.

vl-convert (Vega in an embedded JavaScript engine) does the drawing, without a network. What comes back is
parsed and written again: only drawing elements and attributes pass, ids are made unique on the page, and
nothing can link or run.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

from markupsafe import Markup

_ELEMENTS = frozenset({"svg", "g", "path", "line", "rect", "circle", "text", "tspan", "defs", "clipPath"})
# fmt: off
_ATTRIBUTES = frozenset({
    "d", "x", "y", "x1", "x2", "y1", "y2", "r", "cx", "cy", "width", "height", "viewBox", "transform",
    "fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "stroke-linecap",
    "stroke-opacity", "fill-opacity", "opacity", "clip-path", "text-anchor", "font-size", "font-weight",
    "font-style", "dx", "dy", "id",
})
# fmt: on
_URL = re.compile(r"url\(#([^)]+)\)")


def draw(spec: dict[str, Any], *, prefix: str, title: str, description: str) -> Markup:
    """Return the drawing as one `<svg role="img">` element with a title and a description."""
    import vl_convert  # 30 ms, and only a report needs it

    # Through JSON first: a lone surrogate or a NaN must fail here, as an exception, and not in the engine.
    text = json.dumps(spec, allow_nan=False, ensure_ascii=False).encode("utf-8").decode("utf-8")
    drawn = vl_convert.vegalite_to_svg(json.loads(text), allowed_base_urls=[])
    root = ElementTree.fromstring(drawn)
    body = _copy(root, prefix)
    assert body is not None, "vl-convert gave something that is no SVG"
    body.attrib.pop("width", None)
    height = body.attrib.pop("height", None)
    assert height, "vl-convert gave an SVG without a height"
    body.set("class", "drawing")
    body.set("role", "img")
    body.set("aria-labelledby", f"{prefix}-title {prefix}-desc")
    for tag, words in (("desc", description), ("title", title)):
        child = ElementTree.Element(tag, {"id": f"{prefix}-{tag}"})
        child.text = words
        body.insert(0, child)
    return Markup(ElementTree.tostring(body, encoding="unicode"))


def _copy(element: ElementTree.Element, prefix: str) -> ElementTree.Element | None:
    """Return the element with what is allowed in it, or None where nothing of it shows."""
    tag = element.tag.rpartition("}")[2]
    if tag not in _ELEMENTS or element.get("display") == "none" or element.get("d") == "":
        return None
    copy = ElementTree.Element(tag)
    for name, value in element.attrib.items():
        if name not in _ATTRIBUTES or "javascript:" in value.lower():
            continue
        if name == "id":
            value = f"{prefix}-{value}"
        copy.set(name, _URL.sub(rf"url(#{prefix}-\1)", value))
    if (
        tag == "path"
        and "background" in element.get("class", "")
        and element.get("d", "").endswith("h0v0h0Z")
    ):
        return None
    copy.text = element.text if tag in ("text", "tspan") else None
    for child in element:
        kept = _copy(child, prefix)
        if kept is not None:
            copy.append(kept)
    if tag == "g" and len(copy) == 0:
        return None
    return copy
