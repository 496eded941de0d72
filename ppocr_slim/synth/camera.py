"""A phone camera that photographs a sheet: perspective, a desk around the sheet, light, shadow, blur, noise.

One homography maps ink and boxes, so that boxes go exactly where their ink goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ppocr_slim.synth.sheets import Sheet


@dataclass(frozen=True)
class CameraLimits:
    """Limits of the photographs' defects. Angles in degrees."""

    roll: float = 10.0  # the sheet's rotation in the picture, at most
    tilt: float = 22.0  # of the sheet against the picture's plane, at most, about each axis
    scan: float = 0.12  # fraction of pictures from a scanner: straight, even, no desk
    crop: float = 0.2  # fraction of pictures that show a part of the sheet
    blur: float = 1.3  # standard deviation in pixels, at most
    shadow: float = 0.5  # fraction of pictures with a shadow on the sheet


@dataclass(frozen=True)
class Camera:
    """A camera before a sheet, ready for one photograph [height, width]."""

    height: int
    width: int
    matrix: np.ndarray  # [3, 3] float64, maps points of the sheet into the photograph
    scan: bool
    limits: CameraLimits
    seed: int  # of desk, light, blur and noise

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return points [M, 2] of the sheet as points of the photograph, [M, 2] float32."""
        return cv2.perspectiveTransform(np.asarray(points, np.float64)[None], self.matrix)[0].astype(np.float32)

    def photograph(self, sheet: np.ndarray, covers: list[np.ndarray]) -> np.ndarray:
        """Photograph a sheet.

        Args:
            sheet: the sheet as rendered, [H, W, 3] uint8 BGR.
            covers: outlines [M, 2] of things lying on it, in the sheet's pixels.

        Returns:
            The photograph, [height, width, 3] uint8 BGR.
        """
        rng = np.random.default_rng(self.seed)
        size = (self.width, self.height)
        corners = self.project(_corners(sheet.shape[1], sheet.shape[0]))
        if self.scan:
            picture = np.full((self.height, self.width, 3), 250, np.uint8)
        else:
            picture = _draw_desk(self.height, self.width, rng)
            _cast_shadow(picture, corners, rng.uniform(-8, 8, 2) + 4, rng.uniform(0.45, 0.8))
        cv2.warpPerspective(
            sheet, self.matrix, size, dst=picture, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT
        )
        for outline in covers:
            _draw_cover(picture, self.project(outline), rng)
        light = _draw_light(self.height, self.width, self.scan, self.limits, rng)
        picture = cv2.multiply(picture, light, dtype=cv2.CV_32F)
        picture = _blur(picture, self.limits.blur, rng)
        return _add_noise(picture, rng)


def draw_camera(sheet: Sheet, longer: int, limits: CameraLimits, rng: np.random.Generator) -> Camera:
    """Draw a camera before a sheet.

    Args:
        sheet: what it will photograph.
        longer: pixels of the photograph's longer side.
        limits: of its defects.
        rng: random generator.

    Returns:
        The camera, from which the photograph follows.
    """
    width, height = float(sheet.width), float(sheet.height)
    seed = int(rng.integers(2**31))
    if rng.random() < limits.scan:
        matrix = _view_homography(width, height, float(rng.normal(0.0, 0.006)), 0.0, 0.0, 3.0)
        scale = longer / max(width, height)
        size = (round(width * scale), round(height * scale))
        return Camera(size[1], size[0], _fit_to_frame(matrix, width, height, size, 1.01, rng, 0.0), True, limits, seed)
    roll = np.radians(np.clip(rng.normal(0.0, 0.4 * limits.roll), -limits.roll, limits.roll))
    pitch, yaw = np.radians(np.clip(rng.normal(0.0, 0.4 * limits.tilt, 2), -limits.tilt, limits.tilt))
    matrix = _view_homography(width, height, roll, pitch, yaw, rng.uniform(1.2, 2.5))
    aspect = (3 / 4, 3 / 4, 9 / 16, 0.7, min(width, height) / max(width, height))[int(rng.integers(5))]
    shorter = max(round(longer * aspect), longer // 2)
    upright = (height >= width) == (rng.random() < 0.93)
    size = (shorter, longer) if upright else (longer, shorter)
    fill = rng.uniform(1.02, 1.35) if rng.random() < limits.crop else rng.uniform(0.82, 1.0)
    return Camera(size[1], size[0], _fit_to_frame(matrix, width, height, size, fill, rng, 0.5), False, limits, seed)


def _corners(width: float, height: float) -> np.ndarray:
    return np.array([(-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)])


def _view_homography(width: float, height: float, roll: float, pitch: float, yaw: float, distance: float) -> np.ndarray:
    """Return the homography of a pinhole camera, `distance` sheet diagonals away, before the turned sheet."""
    far = distance * np.hypot(width, height)
    cos, sin = np.cos, np.sin
    about_x = np.array([[1, 0, 0], [0, cos(pitch), -sin(pitch)], [0, sin(pitch), cos(pitch)]])
    about_y = np.array([[cos(yaw), 0, sin(yaw)], [0, 1, 0], [-sin(yaw), 0, cos(yaw)]])
    about_z = np.array([[cos(roll), -sin(roll), 0], [sin(roll), cos(roll), 0], [0, 0, 1]])
    turned = about_z @ about_x @ about_y
    centre = np.array([[1, 0, -0.5 * width], [0, 1, -0.5 * height], [0, 0, 1.0]])
    # a point of the sheet (x, y, 0) turned, moved away, and divided by its distance
    place = np.stack([turned[:, 0], turned[:, 1], np.array([0.0, 0.0, far])], axis=1)
    return np.diag([far, far, 1.0]) @ place @ centre


def _fit_to_frame(
    matrix: np.ndarray,
    width: float,
    height: float,
    size: tuple[int, int],
    fill: float,
    rng: np.random.Generator,
    play: float,
) -> np.ndarray:
    """Return a homography scaled so that the sheet fills the fraction `fill` of a picture of `size` (width, height).

    `play` is the fraction of the room beside the sheet by which it may lie off the centre.
    """
    seen = cv2.perspectiveTransform(_corners(width, height)[None], matrix)[0]
    low, high = seen.min(0), seen.max(0)
    frame = np.array(size, np.float64)
    scale = fill * float((frame / (high - low)).min())
    slack = np.abs(frame - scale * (high - low))
    middle = 0.5 * (frame - 1) + play * rng.uniform(-1, 1, 2) * slack
    shift = middle - scale * 0.5 * (low + high)
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1.0]]) @ matrix


def _smooth_noise(height: int, width: int, cells: tuple[int, int], std: float, rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise about 0, [height, width] float32, with about `cells` (rows, columns) bumps."""
    rough = rng.normal(0.0, std, cells).astype(np.float32)
    return cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)


def _draw_desk(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return what the sheet lies on: wood, cloth, stone or a plain board, [height, width, 3] uint8."""
    tones = (
        (60, 90, 130),
        (90, 120, 160),
        (70, 70, 75),
        (150, 150, 150),
        (40, 45, 50),
        (120, 100, 80),
        (190, 200, 205),
    )
    colour = np.array(tones[int(rng.integers(len(tones)))]) * rng.uniform(0.6, 1.25) + rng.normal(0, 8, 3)
    small = (height // 2, width // 2)
    kind = rng.random()
    if kind < 0.45:  # wood: streaks
        along = (2, 90) if rng.random() < 0.5 else (90, 2)
        pattern = _smooth_noise(*small, along, 0.08, rng) + _smooth_noise(*small, (6, 6), 0.05, rng)
        pattern += _smooth_noise(*small, (along[0] * 4, along[1] * 2), 0.03, rng)
    elif kind < 0.75:  # cloth or stone: grain
        pattern = rng.normal(0.0, rng.uniform(0.02, 0.12), small).astype(np.float32)
        pattern = pattern + _smooth_noise(*small, (5, 5), 0.05, rng)
    else:
        pattern = _smooth_noise(*small, (3, 3), 0.05, rng)
    shade = np.clip(1.0 + pattern, 0.3, 1.6)[:, :, None] * np.clip(colour, 10, 245).astype(np.float32)
    desk = cv2.resize(np.clip(shade, 0, 255).astype(np.uint8), (width, height))
    for _ in range(int(rng.integers(0, 3))):  # edges of boards, other things
        begin, end = rng.uniform(0, [width, height], (2, 2)).round().astype(int)
        tone = tuple(float(value) for value in colour * rng.uniform(0.4, 1.5))
        cv2.line(desk, tuple(map(int, begin)), tuple(map(int, end)), tone, int(rng.integers(1, 14)), cv2.LINE_AA)
    return desk


def _cast_shadow(picture: np.ndarray, outline: np.ndarray, offset: np.ndarray, strength: float) -> None:
    """Darken the picture softly below an outline, as the shadow of what lies there, in place."""
    height, width = picture.shape[:2]
    shade = np.zeros((height // 4 + 1, width // 4 + 1), np.float32)
    cv2.fillPoly(shade, [np.round((outline + offset) / 4).astype(np.int32)], 1.0)
    shade = 1.0 - (1.0 - strength) * cv2.GaussianBlur(shade, (0, 0), 2.5)
    shade = cv2.resize(shade, (width, height))
    picture[:] = cv2.multiply(picture, cv2.merge([shade] * 3), dtype=cv2.CV_8U)


def _draw_cover(picture: np.ndarray, outline: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a thing that lies on the sheet, of one colour, lit from the side, with its shadow, in place."""
    low = np.maximum(np.floor(outline.min(0)).astype(int) - 24, 0)
    high = np.minimum(np.ceil(outline.max(0)).astype(int) + 24, (picture.shape[1], picture.shape[0]))
    colour = rng.uniform(15, 225, 3)
    offset = rng.uniform(-7, 7, 2)
    if (high - low).min() < 8:
        return
    part = picture[low[1] : high[1], low[0] : high[0]]
    _cast_shadow(part, outline - low, offset, 0.55)
    for inset, tone in ((1.0, 0.7), (0.8, 1.0), (0.3, 1.25)):
        # narrower across its shorter side: a round thing is lighter in its centre
        middle = 0.5 * (outline + outline[::-1])
        shape = np.round((middle + inset * (outline - middle) - low) * 16).astype(np.int32)
        cv2.fillPoly(part, [shape], tuple(float(v) for v in np.clip(colour * tone, 0, 255)), cv2.LINE_AA, 4)


def _draw_light(height: int, width: int, scan: bool, limits: CameraLimits, rng: np.random.Generator) -> np.ndarray:
    """Return the light on the picture, factors [height, width, 3] float32."""
    small = (height // 8 + 1, width // 8 + 1)
    uneven = 0.01 if scan else rng.uniform(0.01, 0.07)
    light = 1.0 + _smooth_noise(*small, (3, 3), uneven, rng)
    if not scan:
        across, down = np.meshgrid(np.linspace(-1, 1, small[1]), np.linspace(-1, 1, small[0]))
        angle = rng.uniform(0, 2 * np.pi)
        light += rng.uniform(0.0, 0.18) * (np.cos(angle) * across + np.sin(angle) * down).astype(np.float32)
        light -= rng.uniform(0.0, 0.1) * (across**2 + down**2).astype(np.float32)
        if rng.random() < limits.shadow:
            light *= _draw_shadow(*small, rng)
        light *= np.float32(rng.uniform(0.7, 1.08))
    warm, green = (0.0, 0.0) if scan else rng.normal(0.0, [0.05, 0.015])
    white = (1.0 - warm, 1.0 + green, 1.0 + warm)  # lamps differ between blue and red, hardly in green
    grey = cv2.resize(light.astype(np.float32), (width, height))
    return cv2.merge([grey * np.float32(gain) for gain in white])


def _draw_shadow(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return the shadow of a head, a hand or a phone, factors [height, width]: a soft polygon from an edge."""
    shade = np.zeros((height, width), np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    centre = np.array([0.5, 0.5]) + rng.uniform(0.25, 0.6) * np.array([np.cos(angle), np.sin(angle)])
    around = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 9))))
    radius = rng.uniform(0.25, 0.55, len(around))
    shape = centre + np.stack([np.cos(around), np.sin(around)], 1) * radius[:, None]
    cv2.fillPoly(shade, [np.round(shape * (width, height)).astype(np.int32)], 1.0)
    shade = cv2.GaussianBlur(shade, (0, 0), rng.uniform(1.0, 12.0))
    return 1.0 - rng.uniform(0.12, 0.5) * shade


def _blur(picture: np.ndarray, max_sigma: float, rng: np.random.Generator) -> np.ndarray:
    sigma = max_sigma * rng.beta(1.2, 3.0)
    if sigma > 0.25:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    if rng.random() < 0.1:  # the hand moved
        length = int(rng.integers(2, 4))
        picture = cv2.blur(picture, (length, 1) if rng.random() < 0.5 else (1, length))
    return picture


def _add_noise(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    grain = rng.standard_normal((height, width), np.float32) * np.float32(rng.gamma(2.0, 1.4))
    if rng.random() < 0.5:  # coarser than a pixel, as after a phone's own smoothing
        grain = cv2.GaussianBlur(grain, (3, 3), 0.7) * np.float32(1.6)
    return cv2.add(picture, cv2.merge([grain] * 3), dtype=cv2.CV_8U)  # rounds, and keeps to 0 to 255
