"""Thumbnails of the gallery: of a wide figure the first panels, without a legend at its side."""

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

NUMBER = re.compile(r"sphinx_gallery_thumbnail_number = (\d+)")
SIZE = (600, 480)
GAP = 4  # columns of pixels, more than between letters


def first_panels(figure):
    """Return the left part of a wide figure, up to the first gap beyond its height."""
    width, height = figure.size
    empty = np.asarray(figure.convert("L")) > 250
    top = height // 8  # a legend or title over all panels
    blank = empty[top:].all(axis=0)
    gaps = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(blank, GAP).all(axis=1))
    gaps = gaps[(gaps > 0.95 * height) & (gaps < 0.95 * width)]
    if width < 1.5 * height or not gaps.size:
        return figure
    start = int(gaps[0])
    end = start + int(np.argmin(blank[start:]))
    crossed = not empty[:top, start:end].all()
    return figure.crop((0, top if crossed else 0, start + GAP // 2, height))


def write_thumbnails(app):
    """Replace the thumbnails of sphinx-gallery."""
    gallery = Path(app.srcdir, app.config.sphinx_gallery_conf["gallery_dirs"], "images")
    for example in Path(app.config.sphinx_gallery_conf["examples_dirs"]).glob("plot_*.py"):
        number = int((NUMBER.search(example.read_text("utf-8")) or [0, 1])[1])
        path = gallery / f"sphx_glr_{example.stem}_{number:03}.png"
        if path.exists():  # the gallery was made with figures
            picture = first_panels(Image.open(path).convert("RGB"))
            picture = ImageOps.pad(picture, SIZE, Image.Resampling.LANCZOS, color="white")
            picture.save(gallery / "thumb" / f"sphx_glr_{example.stem}_thumb.png")


def setup(app):
    app.connect("builder-inited", write_thumbnails, priority=900)  # after sphinx-gallery
    return {"parallel_read_safe": True, "parallel_write_safe": True}
