"""What surrounds kidneys in a CT: outline, fat, muscle, spine, liver, spleen, bowel, vessels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segfed.phantom.fields import Field, Mask, SmoothField, as_triple

AIR, FAT, MUSCLE = -1000.0, -100.0, 58.0

_MEDIAL_MM = 66.0
_WOBBLE_MM = 5.0  # SD of the displacement that makes organs of ellipsoids
_WALL_MM = 11.0
_DISC_PITCH_MM = 36.0
_RIB_PITCH_MM = 30.0


@dataclass(frozen=True)
class Frame:
    """Where the kidneys of a case lie, in mm from the first voxel of the RAS array."""

    midline_mm: float
    level_mm: float
    """Anterior position of the kidneys' middle."""

    height_mm: float
    """Superior position of the kidneys' middle."""

    half_extent_mm: tuple[float, float]
    """Largest distance of kidney or tumor from that middle, to the sides and along A."""


@dataclass(frozen=True)
class _Ellipsoid:
    """One organ, or a piece of one; a tube where a radius is infinite."""

    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    hu: float


class Abdomen:
    """One patient's organs, painted slab by slab so that memory stays bounded.

    Args:
        rng: Source of the anatomy.
        frame: Where the kidneys lie.
        extent_mm: Size of the whole image along R, A and S.
        enhancement: Contrast agent, 1 for a late arterial phase.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        frame: Frame,
        extent_mm: tuple[float, float, float],
        enhancement: float,
    ) -> None:
        self._frame = frame
        self._wobble = [
            SmoothField(rng, extent_mm=extent_mm, correlation_mm=28.0) for _ in range(3)
        ]
        self._texture = SmoothField(rng, extent_mm=extent_mm, correlation_mm=5.0)
        half_width, half_depth = frame.half_extent_mm
        self._half_width_mm = max(rng.uniform(142.0, 158.0), half_width + 45.0)
        self._half_depth_mm = max(rng.uniform(98.0, 110.0), half_depth + 12.0)
        self._fat_mm = rng.uniform(10.0, 26.0)
        self._disc_phase = rng.uniform(0, _DISC_PITCH_MM)
        self._organs = _organs(rng, enhancement)
        self._vessel_hu = 60.0 + 150.0 * enhancement
        self._vein_hu = 60.0 + 75.0 * enhancement

    def paint(self, positions_mm: list[Field]) -> tuple[Field, Field]:
        """HU of a slab (I, J, K) without kidneys, and the texture that all tissue shares.

        Args:
            positions_mm: Voxel positions along R, A and S, in mm from the first voxel.
        """
        frame = self._frame
        origin = (frame.midline_mm, frame.level_mm, frame.height_mm)
        shapes = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))
        fixed = [
            (p - o).astype(np.float32).reshape(s)
            for p, o, s in zip(positions_mm, origin, shapes, strict=True)
        ]
        wobble = [field.at(positions_mm) for field in self._wobble]
        bent = [
            axis + np.float32(_WOBBLE_MM) * field for axis, field in zip(fixed, wobble, strict=True)
        ]
        texture = self._texture.at(positions_mm)
        hu = np.full(texture.shape, AIR, dtype=np.float32)
        cavity = self._paint_wall(
            hu, fixed, [(a + b) / 2 for a, b in zip(fixed, bent, strict=True)]
        )
        mesenteric_vessel = cavity & (texture > 1.8)
        hu[mesenteric_vessel] = self._vein_hu
        for organ in self._organs:
            inside = _inside(organ, bent) & cavity
            hu[inside] = organ.hu + 5.0 * texture[inside]
        self._paint_vessels(hu, bent)
        self._paint_spine(hu, fixed, bent)
        return hu, texture

    def _paint_wall(self, hu: Field, fixed: list[Field], bent: list[Field]) -> Mask:
        """Skin, fat, the muscular wall with its ribs; returns the cavity that it encloses."""
        x, y, z = bent
        depth = self._half_depth_mm
        dx = np.abs(x) / self._half_width_mm
        dy = np.abs(y - (depth - 72.0)) / depth
        # A superellipse: flatter in front and behind than an ellipse
        radius = (dx**2.4 + dy**2.4) ** (1 / 2.4)
        below_skin_mm = (1 - radius) * depth
        hu[below_skin_mm > 0] = FAT
        hu[(below_skin_mm > 0) & (below_skin_mm < 2.5)] = 0.0
        wall = (below_skin_mm > self._fat_mm) & (below_skin_mm < self._fat_mm + _WALL_MM)
        hu[wall] = MUSCLE
        slope = 0.5 * np.abs(fixed[0]) - 0.35 * fixed[1]
        rib = np.sin(2 * np.pi * (z + slope) / _RIB_PITCH_MM) > 0.72
        core = np.abs(below_skin_mm - self._fat_mm - 6.0) < 4.0
        hu[wall & core & rib & (fixed[2] > -15.0 + 0.5 * fixed[1])] = 420.0
        return np.asarray(below_skin_mm > self._fat_mm + _WALL_MM)

    def _paint_vessels(self, hu: Field, bent: list[Field]) -> None:
        """Aorta and vena cava before the spine, and the renal arteries and veins."""
        x, y, z = bent
        for side in (1, -1):
            along = np.abs(x - side * 30.0) < 30.0
            artery = (y - 12.0) ** 2 + (z - 2.0) ** 2 < 3.5**2
            vein = (y - 19.0) ** 2 + (z + 5.0) ** 2 < 5.5**2
            hu[along & vein] = self._vein_hu
            hu[along & artery] = self._vessel_hu
        hu[((x - 19.0) / 12.0) ** 2 + ((y - 30.0) / 9.0) ** 2 + 0 * z < 1] = self._vein_hu
        hu[(x + 9.0) ** 2 + (y - 34.0) ** 2 + 0 * z < 9.5**2] = self._vessel_hu

    def _paint_spine(self, hu: Field, fixed: list[Field], bent: list[Field]) -> None:
        """Psoas, back muscles, and vertebrae with discs, canal and processes."""
        x, y, _ = bent
        z = fixed[2]
        away = np.abs(x)
        flare = np.clip(1.0 - (z - 10.0) / 80.0, 0.5, 1.6)  # the psoas grows downwards
        hu[((away - 33.0) / 15.0) ** 2 + ((y - 2.0) / 17.0) ** 2 < flare] = MUSCLE
        back = ((away - 33.0) / 30.0) ** 2 + ((y + 44.0) / 20.0) ** 2 + 0 * z < 1
        hu[back] = MUSCLE - 6.0
        phase = np.mod(z + self._disc_phase, _DISC_PITCH_MM)
        bone = phase > 9.0
        body = (x / 24.0) ** 2 + ((y - 10.0) / 17.0) ** 2 + 0 * z
        hu[body < 1] = 85.0
        hu[(body < 1) & bone] = 190.0
        hu[(body < 1) & (body > 0.78) & bone] = 420.0
        arch = (away / 17.0) ** 2 + ((y + 17.0) / 15.0) ** 2 + 0 * z
        hu[(arch < 1) & bone] = 350.0
        wing = (away < 42.0) & (np.abs(y + 14.0) < 5.0) & (phase > 18.0) & (phase < 27.0)
        spinous = (away < 4.0) & (y < -24.0) & (y > -54.0) & (phase > 10.0) & (phase < 30.0)
        hu[wing | spinous] = 350.0
        hu[(x / 10.0) ** 2 + ((y + 14.0) / 8.0) ** 2 + 0 * z < 1] = 30.0


def _organs(rng: np.random.Generator, enhancement: float) -> list[_Ellipsoid]:
    """Liver, spleen, stomach, pancreas, colon and small bowel, back to front."""
    top = rng.normal(0.0, 6.0)
    liver_hu, spleen_hu = 58.0 + 45.0 * enhancement, 55.0 + 65.0 * enhancement
    organs = [
        _Ellipsoid((74.0, 48.0, 70.0 + top), (66.0, 74.0, 82.0), liver_hu),
        _Ellipsoid((20.0, 84.0, 80.0 + top), (66.0, 34.0, 46.0), liver_hu),
        _Ellipsoid((48.0, 88.0, 34.0 + top), (13.0, 18.0, 18.0), 8.0),  # gallbladder
        _Ellipsoid((-108.0, 6.0, 66.0 + top), (27.0, 46.0, 48.0), spleen_hu),
        _Ellipsoid((-52.0, 74.0, 72.0), (46.0, 34.0, 40.0), MUSCLE),
        _Ellipsoid((-52.0, 74.0, 72.0), (41.0, 29.0, 35.0), 22.0),
        _Ellipsoid((-52.0, 90.0, 72.0), (30.0, 12.0, 26.0), -850.0),
        _Ellipsoid((-14.0, 56.0, 26.0), (58.0, 11.0, 15.0), 60.0 + 40.0 * enhancement),
    ]
    for side in (1, -1):
        organs += [
            _Ellipsoid((side * 112.0, 28.0, -70.0), (19.0, 21.0, 62.0), MUSCLE - 8.0),
            _Ellipsoid((side * 112.0, 28.0, -70.0), (15.0, 17.0, 58.0), rng.uniform(-20.0, 30.0)),
            _Ellipsoid((side * 110.0, 35.0, rng.uniform(-80.0, -40.0)), (9.0, 9.0, 16.0), -800.0),
        ]
    for _ in range(34):
        x, y, z = rng.uniform(-85.0, 85.0), rng.uniform(45.0, 112.0), rng.uniform(-110.0, 25.0)
        length, width = rng.uniform(16.0, 28.0), rng.uniform(10.0, 14.0)
        content = rng.choice([-700.0, 15.0, 30.0, 200.0], p=[0.15, 0.45, 0.3, 0.1])
        axes = rng.permutation([length, width, width])
        wall, lumen = as_triple(axes), as_triple(axes - 3.0)
        organs.append(_Ellipsoid((x, y, z), wall, MUSCLE + 35.0 * enhancement))
        organs.append(_Ellipsoid((x, y, z), lumen, float(content)))
    return organs


def _inside(organ: _Ellipsoid, bent: list[Field]) -> Mask:
    """Voxels of an organ."""
    squared = sum(
        ((axis - centre) / radius) ** 2
        for axis, centre, radius in zip(bent, organ.centre_mm, organ.radii_mm, strict=True)
    )
    return np.asarray(squared < 1)
