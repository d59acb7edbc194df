"""Formulas as MathML, which browsers show without scripts, fonts or a network."""

from html import escape

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.logging import getLogger

logger = getLogger(__name__)

# Where browsers differ from TeX: log p needs a space, and the bars of a divergence do not stretch.
CORRECTIONS = {
    "<mo>&ApplyFunction;</mo>": '<mspace width="0.1667em"></mspace>',
    "<mo>‖</mo>": '<mo stretchy="false">‖</mo>',
}


def visit(writer, node):
    """Write a formula; a command of TeX that docutils does not know is a warning."""
    source, block = node.astext(), isinstance(node, nodes.math_block)
    try:
        formula = tex2mathml(source, block)
        for written, meant in CORRECTIONS.items():
            formula = formula.replace(written, meant)
    except MathError as error:
        logger.warning("%s: %s", error, source, location=node)
        formula = f"<code>{escape(source)}</code>"
    writer.body.append(f'<div class="math">{formula}</div>\n' if block else formula)
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit, None), (visit, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
