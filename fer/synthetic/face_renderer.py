"""Drawn faces: a person, an expression and a camera become 48x48 grey pixels.

A face is drawn at 48x48 in grey from a person (head, skin, hair, eyes, brows, nose, mouth), an expression and a camera
(pose, light, blur, noise, compression). An expression is a set of action units, each from 0 (at rest) to about 1
(strong), with the numbers of P. Ekman and W. V. Friesen's Facial Action Coding System (Consulting Psychologists Press,
1978). Which units make which emotion follows the same authors' EMFACS (W. V. Friesen and P. Ekman, EMFACS-7: Emotional
Facial Action Coding System, University of California, San Francisco, 1983); in brackets, what is there only at times:

    angry     4 5 7 23 24 (17): brows lowered, eyes glaring, lips tight and pressed; or teeth bared by 10 22 25
    disgust   9 10 15 16 (4 7 17 25): nose wrinkled, upper lip raised, lip corners down
    fear      1 2 4 5 20 25 (26): brows raised and drawn together, upper lids raised, lips stretched
    happy     6 12 (25 26): cheeks raised, lip corners pulled up; teeth with 25
    sad       1 4 15 43 (7 17): inner brows raised, lids drooping, lip corners down
    surprise  1 2 5 25 26: brows and upper lids raised, jaw dropped
    neutral   none

Intensity runs from subtle to strong, single units are missing or stray, some faces mix a second emotion in,
and people differ at rest in the height of their brows and the lie of their lips. So the classes overlap: weak fear
looks like surprise, weak sadness like nothing, and no classifier is right about all of them.

Coordinates: u to the right and v down, in pixels of a face at scale 1, from the head's centre. Every array of the
drawing broadcasts to [N, 48, 48] float32 and every operation works on each face by itself, so that a face is a
function of its own numbers alone. Edges are soft through their distance to a pixel's centre, not through oversampling.
In the drawing functions p is the person and au the action units; their numbers, lengths in pixels and shares of a
tone, were fitted by eye.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace as Person  # TRAITS and two fields of noise by name: see `draw_person`

import numpy as np

from fer.labels import CLASSES

SIDE = 48
CHUNK = 20  # faces drawn at once: their arrays stay in a core's cache

# Each emotion's ways of showing: action unit -> strength at intensity 1.
EMOTIONS = {
    "angry": (
        {4: 1.0, 5: 0.5, 7: 0.7, 17: 0.4, 23: 0.9, 24: 0.7},
        {4: 1.0, 5: 0.4, 7: 0.8, 9: 0.15, 10: 0.3, 22: 0.8, 25: 0.9},
    ),
    "disgust": (
        {4: 0.4, 7: 0.6, 9: 1.0, 10: 0.7, 15: 0.6, 16: 0.3, 17: 0.7},
        {4: 0.4, 7: 0.6, 9: 1.0, 10: 1.0, 15: 0.4, 16: 0.8, 25: 0.6},
    ),
    "fear": (
        {1: 1.0, 2: 0.5, 4: 0.8, 5: 1.1, 20: 1.0, 25: 1.3},
        {1: 1.0, 2: 0.6, 4: 0.7, 5: 1.1, 20: 1.0, 25: 0.9, 26: 0.6},
    ),
    "happy": (
        {6: 0.7, 12: 1.0},
        {6: 0.7, 12: 1.0, 25: 1.3},
        {6: 1.0, 12: 1.0, 25: 1.4, 26: 0.25},
    ),
    "sad": (
        {1: 1.0, 4: 0.6, 15: 1.0, 17: 0.5, 43: 0.4},
        {1: 1.0, 4: 0.7, 7: 0.3, 15: 0.9, 43: 0.7},
    ),
    "surprise": (
        {1: 1.0, 2: 1.0, 5: 0.9, 25: 0.6, 26: 1.0},
        {1: 1.0, 2: 1.0, 5: 0.8, 25: 0.4, 26: 0.6},
    ),
    "neutral": ({},),
}
UNITS = tuple(sorted({unit for ways in EMOTIONS.values() for way in ways for unit in way}))

# Chances, for the traits that run from 0 to 1 and are compared with them.
LONG_HAIR, BEARD, GLASSES = 0.38, 0.3, 0.1
BALD = EYES_SHUT = 0.05
BLENDED = 0.08  # a second emotion mixed in

Units = dict[int, np.ndarray]  # action unit -> strength, [N, 1, 1] float32, 0 or more

# What differs from face to face, each drawn evenly from (low, high). Lengths are pixels, tones 0 (black) to 1,
# angles radians.
TRAITS = {
    # head and skin
    "head_width": (16.2, 18.4),
    "forehead": (22.5, 25.5),
    "chin": (21.0, 24.0),
    "jaw": (-0.15, 0.6),
    "taper": (0.0, 0.22),
    "skin": (0.42, 0.92),
    "age": (0, 1),
    "gauntness": (0, 1),
    "cheeks": (0.4, 1.2),
    "asymmetry": (-0.18, 0.18),
    # hair
    "hair_style": (0, 1),
    "hair_tone": (0.2, 0.85),
    "hairline": (-21.5, -15.0),
    "parting": (-9, 9),
    "hair_width": (0.8, 3.4),
    "fringe": (0.0, 0.35),
    "waves": (0.0, 0.12),
    "texture": (0.05, 0.2),
    "beard": (0, 1),
    "beard_tone": (0.35, 0.7),
    # eyes and brows
    "eye_x": (7.4, 8.8),
    "eye_y": (-5.2, -3.8),
    "eye_width": (3.7, 4.7),
    "eye_open": (1.6, 2.3),
    "eye_tilt": (-0.5, 0.3),
    "iris": (0.08, 0.4),
    "lash": (0.5, 1.0),
    "gaze_x": (-1.0, 1.0),
    "gaze_y": (-0.4, 0.4),
    "blink": (0, 1),
    "glasses": (0, 1),
    "frame": (0.0, 0.5),
    "brow_y": (-10.4, -8.8),
    "brow_arch": (0.1, 1.4),
    "brow_thick": (1.1, 2.3),
    "brow_dark": (0.45, 0.95),
    "brow_slant": (-0.5, 0.5),
    # nose and mouth
    "nose_length": (4.6, 6.4),
    "nose_width": (2.6, 3.8),
    "nose_height": (2.5, 4.5),
    "mouth_y": (11.0, 12.6),
    "mouth_width": (5.6, 7.0),
    "mouth_rest": (-0.4, 0.45),
    "upper_lip": (0.9, 1.7),
    "lower_lip": (1.3, 2.3),
    "lip_tone": (0.55, 0.85),
    # surroundings, pose and camera
    "back": (0.02, 0.95),
    "back_slope": (-0.35, 0.35),
    "back_turn": (0, 2 * np.pi),
    "back_wave": (0.0, 0.1),
    "shirt": (0.05, 0.9),
    "roll": (-0.13, 0.13),
    "yaw": (-3.8, 3.8),
    "pitch": (-1.5, 1.5),
    "scale": (1.0, 1.22),
    "shift_x": (-1.3, 1.3),
    "shift_y": (-1.2, 1.2),
    "light_x": (-0.8, 0.8),
    "light_y": (-0.9, 0.0),
    "ambient": (0.35, 0.7),
    "gamma": (0.75, 1.3),
    "contrast": (0.13, 0.22),
    "mean": (0.42, 0.66),
    "blur": (0, 1),
    "noise": (0, 1),
    "coarseness": (0, 1),
}

# Where a face's parts can lie in the image, whatever the pose: what is drawn there need not touch the rest.
UPPER, MIDDLE, LOWER = slice(0, 33), slice(11, 42), slice(21, 48)
LEFT, CENTRE, RIGHT = slice(0, 32), slice(8, 40), slice(16, 48)


@dataclasses.dataclass(frozen=True)
class Canvas:
    """An image in the making and each pixel's place on the face, all [N, H, W] float32."""

    image: np.ndarray
    u: np.ndarray
    v: np.ndarray

    def window(self, rows: slice, columns: slice = slice(None), side: float = 1.0) -> Canvas:
        """A view of a part; `side` -1 mirrors u, so that both halves of a face are drawn as the right one."""
        return Canvas(self.image[:, rows, columns], side * self.u[:, rows, columns], self.v[:, rows, columns])

    def paint(self, tone: np.ndarray | float, cover: np.ndarray) -> None:
        """Mixes `tone` in, where `cover` (0 to 1) says."""
        self.image[...] += cover * (tone - self.image)


def draw_person(random: np.random.Generator, count: int) -> Person:
    """Draws `count` people and how each is photographed.

    Returns:
      TRAITS by name, each [count, 1, 1] float32, with `phase` [count, 6, 1, 1] (radians, of whatever waves), and
      `grain` [count, 48, 48] (standard normal).
    """
    person = Person()
    for name, (low, high) in TRAITS.items():
        setattr(person, name, random.uniform(low, high, (count, 1, 1)).astype(np.float32))
    person.hair_tone = np.minimum(person.hair_tone**3, 0.9 * person.skin)  # mostly dark
    person.phase = random.uniform(0, 2 * np.pi, (count, 6, 1, 1)).astype(np.float32)
    person.grain = random.standard_normal((count, SIDE, SIDE), dtype=np.float32)
    return person


def draw_units(random: np.random.Generator, labels: np.ndarray) -> Units:
    """Draws an expression for each label ([N], indices into CLASSES): action unit -> strength, [N, 1, 1] float32."""
    shape = (len(labels), len(UNITS))
    blend = 0.4 * (random.random((len(labels), 1)) < BLENDED)
    chosen = (1 - 0.6 * blend) * _ways(random, labels) + blend * _ways(random, random.permutation(labels))
    intensity = 0.2 + 0.95 * random.beta(2.0, 1.2, (len(labels), 1))
    spread = random.uniform(0.7, 1.25, shape) * (random.random(shape) > 0.08)
    stray = random.uniform(0, 0.35, shape) * (random.random(shape) < 0.06)
    strengths = (chosen * intensity * spread + stray).astype(np.float32)
    return {unit: strengths[:, column, None, None] for column, unit in enumerate(UNITS)}


def _ways(random: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """One of its emotion's ways for each label, as strengths [N, len(UNITS)]."""
    chosen = np.zeros((len(labels), len(UNITS)))
    for row, (label, chance) in enumerate(zip(labels, random.random(len(labels)))):
        ways = EMOTIONS[CLASSES[label]]
        way = ways[int(chance * len(ways))]
        chosen[row] = [way.get(unit, 0.0) for unit in UNITS]
    return chosen


def render(person: Person, units: Units) -> np.ndarray:
    """Draws N faces, uint8 [N, 48, 48], from what `draw_person` and `draw_units` give for N."""
    count = len(person.grain)
    parts = []
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        few = Person(**{name: value[part] for name, value in vars(person).items()})
        parts.append(_photograph(few, _draw(few, {unit: value[part] for unit, value in units.items()})))
    return np.concatenate(parts)


def _draw(p: Person, au: Units) -> np.ndarray:
    """The scene from back to front, as brightness [N, 48, 48] about 0 to 1."""
    pixels = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    x, y = pixels - p.shift_x, pixels[:, None] - p.shift_y
    cos, sin = np.cos(p.roll) / p.scale, np.sin(p.roll) / p.scale
    u, v = cos * x + sin * y, cos * y - sin * x
    scene = Canvas(_background(p, pixels), u, v)

    chin = p.chin + 3.2 * au[26] - 0.6 * au[17]
    below, above = np.maximum(v, 0) / chin, np.minimum(v, 0) / p.forehead
    across = np.square(u / p.head_width * (1 + p.taper * below))
    along = np.square(below + above)
    radius = across + along - p.jaw * across * along  # squared, 1 on the outline; `jaw` squares an ellipse's corners
    outline = (np.sqrt(radius) - 1) * (0.95 * p.head_width)

    # Turning moves what lies in the middle of a head, and leaves its outline.
    face = Canvas(scene.image, u - p.yaw * np.maximum(1 - across, 0), v - p.pitch * np.maximum(1 - along, 0))
    _hair_behind(scene, p)
    _neck_and_ears(scene, p, chin)
    face.paint(_skin(face, p, au, radius), _cover(outline))
    for side, columns, lean in ((-1.0, LEFT, 1 + p.asymmetry), (1.0, RIGHT, 1 - p.asymmetry)):
        half = face.window(UPPER, columns, side)
        _eye(half, p, au, side, lean)
        _brow(half, p, au, lean)
        _glasses(half, p)
    _nose(face.window(MIDDLE, CENTRE), p, au)
    _mouth(face.window(LOWER), p, au)
    _hair_front(scene, p, outline)
    return scene.image


def _cover(distance: np.ndarray) -> np.ndarray:
    """How much of a pixel an area covers whose edge is `distance` away (pixels, negative inside)."""
    return np.clip(0.5 - distance, 0, 1)


def _stroke(distance: np.ndarray, width: float) -> np.ndarray:
    """A soft line: 1 on it, 1/e at `width` pixels."""
    return np.exp(-np.square(distance * (1 / width)))


def _spot(u: np.ndarray, v: np.ndarray, width: float, height: float) -> np.ndarray:
    """A soft spot about 0, 0: 1 there, 1/e on the ellipse of `width` and `height`."""
    return np.exp(-np.square(u * (1 / width)) - np.square(v * (1 / height)))


def _background(p: Person, pixels: np.ndarray) -> np.ndarray:
    x, y = pixels[None, None, :], pixels[None, :, None]
    slope = (np.cos(p.back_turn) * x + np.sin(p.back_turn) * y) * (p.back_slope / 24)
    waves = np.sin(0.25 * x + p.phase[:, 0]) * np.sin(0.13 * y + p.phase[:, 1])
    return p.back + slope + p.back_wave * waves


def _hair(canvas: Canvas, p: Person) -> np.ndarray:
    """Brightness of hair: a wave or two, and strands, which are grain drawn out downwards."""
    grain = p.grain
    strands = grain + np.roll(grain, 1, 1) + np.roll(grain, 2, 1) + np.roll(grain, 3, 1)
    waves = np.sin(1.9 * canvas.u + 0.25 * canvas.v + p.phase[:, 2]) + np.sin(0.35 * canvas.v + p.phase[:, 3])
    return 0.02 + p.hair_tone * (1 + 0.5 * p.texture * strands + p.waves * waves)


def _hair_behind(scene: Canvas, p: Person) -> None:
    long = np.float32(p.hair_style < LONG_HAIR)
    width = p.head_width + p.hair_width * (0.6 + 0.6 * long)
    below = np.maximum(scene.v, 0) * (1 / (6.0 + 54.0 * long))
    above = np.minimum(scene.v, 0) / (p.forehead + p.hair_width)
    edge = (np.sqrt(np.square(scene.u / width) + np.square(below + above)) - 1) * width
    scene.paint(_hair(scene, p), _cover(edge) * (p.hair_style < 1 - BALD))


def _hair_front(scene: Canvas, p: Person, outline: np.ndarray) -> None:
    long = np.float32(p.hair_style < LONG_HAIR)
    temples = np.maximum(np.abs(scene.u) / p.head_width - 0.8, 0)
    parted = (0.018 + 0.012 * long) * np.square(scene.u - p.parting)
    ragged = np.sin(0.9 * scene.u + p.phase[:, 4]) + np.sin(2.1 * scene.u + p.phase[:, 5])
    line = p.hairline + (55 + 60 * long) * temples * (p.hairline > -19) + parted + p.fringe * ragged
    cover = _cover(0.5 * (scene.v - line)) * _cover(outline - 0.7 * p.hair_width)
    scene.paint(_hair(scene, p), cover * (p.hair_style < 1 - BALD))


def _neck_and_ears(scene: Canvas, p: Person, chin: np.ndarray) -> None:
    side, low = np.abs(scene.u), scene.window(LOWER)
    neck = np.maximum(side[:, LOWER] - 0.62 * p.head_width, 8 - low.v)
    low.paint(p.skin * (0.5 * p.ambient) + 0.1, _cover(neck))
    shoulders = chin + 2 + 0.35 * np.maximum(side[:, LOWER] - 0.55 * p.head_width, 0)
    low.paint(p.shirt, _cover(0.8 * (shoulders - low.v)))
    across = np.abs(scene.u + 0.3 * p.yaw) - p.head_width - 0.3
    ear = np.sqrt(np.square(across / 2.2) + np.square((scene.v - 0.5) / 4.6))
    scene.paint(p.skin * (0.45 + 0.25 * np.minimum(ear, 1)), _cover(2.5 * (ear - 1)) * (p.hair_style >= LONG_HAIR))


def _skin(face: Canvas, p: Person, au: Units, radius: np.ndarray) -> np.ndarray:
    """Brightness of the bare skin: its relief under a lamp (Lambert's law), its lines, a beard."""
    relief = _relief(face, p, au, radius)
    slope_x, slope_y = np.zeros_like(relief), np.zeros_like(relief)
    slope_x[:, :, 1:-1] = 0.5 * (relief[:, :, 2:] - relief[:, :, :-2])
    slope_y[:, 1:-1] = 0.5 * (relief[:, 2:] - relief[:, :-2])
    towards = 1 - p.light_x * slope_x - p.light_y * slope_y
    lengths = np.sqrt((1 + np.square(slope_x) + np.square(slope_y)) * (1 + p.light_x**2 + p.light_y**2))
    tone = p.skin * (p.ambient + (1 - p.ambient) * np.maximum(towards / lengths, 0))

    tone[:, UPPER] *= 1 - np.minimum(_lines_above(face.window(UPPER), p, au), 0.7)
    tone[:, LOWER] *= 1 - np.minimum(_lines_below(face.window(LOWER), p, au), 0.7)
    bearded = np.clip(5 * (p.beard - 1 + BEARD), 0, 1) * (p.hair_style >= LONG_HAIR) * p.beard_tone
    chin_and_lip = np.clip(3 * (radius - 0.25) + np.float32(0.9) * (face.v > p.mouth_y - 4.5), 0, 1)
    reach = chin_and_lip * np.clip(0.2 * (face.v - 6.5), 0, 1)
    return tone * (1 - bearded * reach * (0.85 + 0.2 * p.grain))


def _relief(face: Canvas, p: Person, au: Units, radius: np.ndarray) -> np.ndarray:
    """The skin's height above the image plane, in pixels: a round head with bumps and hollows."""
    relief = 11 * np.sqrt(np.maximum(1 - radius, 0) + 0.04)
    top, low = face.window(UPPER), face.window(LOWER)
    side = np.abs(top.u)
    relief[:, UPPER] -= 1.7 * _spot(side - p.eye_x + 1.2, top.v - p.eye_y + 0.5, 4.2, 3.2)
    relief[:, UPPER] += 0.7 * _spot(side - 5, top.v - p.brow_y - 0.8 * au[4], 5.0, 1.6)

    middle = face.window(MIDDLE, CENTRE)
    nose, tip = _nose_place(middle, p, au)
    bridge = 0.55 * _spot(nose, middle.v - tip + 4.5, 1.7, 4.0)
    ball = 0.75 * _spot(nose, middle.v - tip + 0.6, 2.0, 2.2)
    wings = 1.3 * _spot(np.abs(nose) - p.nose_width, middle.v - tip - 0.2 + 0.4 * au[10], 1.4, 1.6)
    relief[:, MIDDLE, CENTRE] += p.nose_height * (bridge + ball) + wings

    side, lift = np.abs(face.u), au[6] + 0.5 * au[12]
    cheek_u, cheek_v = 10.0 + 0.6 * au[12], 4.6 - 1.6 * lift
    relief += p.cheeks * (1 + 1.1 * lift) * _spot(side - cheek_u, face.v - cheek_v, 4.2, 4.0)
    side, below = side[:, LOWER], low.v - p.mouth_y
    relief[:, LOWER] -= 1.1 * p.gauntness * _spot(side - 11.5, low.v - 10.5, 3.2, 4.5)
    relief[:, LOWER] += (0.9 + au[17]) * _spot(low.u, low.v - p.chin + 3.6, 4.0, 2.4)
    relief[:, LOWER] -= 0.9 * _spot(low.u, below - 3.9 - 1.5 * au[26] - 0.8 * au[25], 4.5, 1.5)
    relief[:, LOWER] += 0.8 * _spot(low.u, below, 6.0, 3.6)
    relief[:, LOWER] -= 0.5 * _spot(low.u, below + 3.4, 0.9, 1.6)
    return relief


def _nose_place(face: Canvas, p: Person, au: Units) -> tuple[np.ndarray, np.ndarray]:
    """Distance across from the nose, which stands out and so moves more than the face that turns; v of its tip."""
    return face.u - 0.12 * p.yaw * np.clip((face.v + 6) / 6, 0, 1), p.nose_length - 0.7 * au[9]


def _lines_above(face: Canvas, p: Person, au: Units) -> np.ndarray:
    """Darkness of the lines about brows, eyes and the nose's root."""
    u, v, side = face.u, face.v, np.abs(face.u)
    raised = np.maximum(au[1], au[2])
    first = v - p.brow_y + 3.2 + 1.4 * raised + 0.012 * np.square(u)
    depth = (0.05 * p.age + 0.22 * raised) * _stroke(u, 9)
    forehead = depth * (_stroke(first, 0.6) + 0.8 * _stroke(first + 2.2, 0.6))
    frown = (0.05 * p.age + 0.45 * au[4]) * _spot(side - 1.5, v - p.brow_y - 0.5, 0.6, 2.6)
    below = v - p.eye_y
    slanted = below - 0.35 * side
    root = 0.5 * au[9] * _stroke(u, 3.2) * (_stroke(slanted - 1.2, 0.55) + _stroke(slanted + 0.9, 0.55))
    outwards = side - p.eye_x
    feet = 0.35 * au[6] * _spot(outwards - 5.8, below, 1.8, 2.0) * (0.5 + 0.5 * np.cos(2.6 * below + 0.8 * side))
    depth = 0.05 + 0.1 * p.age + 0.28 * au[6] + 0.12 * au[7] + 0.15 * au[9]
    bags = depth * _spot(outwards, below - 2.9 + 0.05 * np.square(outwards), 4.0, 0.7)
    return forehead + frown + root + feet + bags


def _lines_below(face: Canvas, p: Person, au: Units) -> np.ndarray:
    """Darkness of the lines from the nose to the lips' corners, about the mouth and on the chin."""
    u, v, side = face.u, face.v, np.abs(face.u)
    spread = 0.9 * au[12] + 0.5 * au[20]
    down = 0.125 * v - 0.5
    bulge = (0.6 + 1.2 * spread) * np.sin(np.pi * np.clip(down, 0, 1))
    path = p.nose_width + 1.2 + (3.6 + 2.2 * spread) * down + bulge + 0.4 * au[9]
    ends = np.clip(0.5 * (v - 2.5 + au[9]), 0, 1) * np.clip(0.25 * (13 - 2 * au[12] - v), 0, 1)
    depth = 0.05 + 0.1 * p.age + 0.26 * au[12] + 0.24 * au[9] + 0.18 * au[10] + 0.1 * au[15]
    fold = depth * _stroke(side - path, 1.15) * ends
    chin = 0.3 * au[17] * _spot(u, v - p.chin + 4.2, 2.8, 0.9) * (0.6 + 0.4 * np.sin(2.4 * u + v))
    below = v - p.mouth_y
    shadow = 0.22 * _spot(u, below - 3.6 - 1.6 * au[26] - au[25], 4.0, 0.9)
    corners = 0.3 * au[15] * _spot(side - p.mouth_width - 1.2 - 0.25 * below, below - 3.0, 0.8, 2.0)
    return fold + chin + shadow + corners


def _eye(half: Canvas, p: Person, au: Units, side: float, lean: np.ndarray) -> None:
    u, v = half.u, half.v
    s = (u - p.eye_x) / p.eye_width  # -1 at the inner corner, 1 at the outer
    arch = np.maximum(1 - np.square(s), 0)
    seen = (p.blink > EYES_SHUT) | (au[5] > 0.2)
    squeeze = np.clip(0.75 * au[7] + 0.7 * au[6] + 0.6 * au[9], 0, 1.2) * lean
    droop, wide = au[43] * lean, au[5] * lean
    narrowed = p.eye_open * (1 - 0.25 * au[7] - 0.3 * au[6] - 0.35 * au[9] - 0.4 * droop)
    upper = np.maximum(narrowed + 1.6 * wide - 0.35 * au[4] * (1 - np.minimum(au[5], 1)), 0.25) * seen
    lower = np.maximum(1.15 - 0.95 * squeeze + 0.25 * au[5], 0.1) * seen - 0.5 * au[6]
    level = p.eye_y + (p.eye_tilt + 0.7 * droop + 0.4 * au[1] * au[4]) * s
    lid, under = level - upper * arch * (1 - 0.18 * s), level + lower * arch * (1 + 0.15 * s)
    ends = (np.abs(s) - 1) * p.eye_width
    opening = _cover(np.maximum(np.maximum(lid - v, v - under), ends))

    # white, iris, pupil, glint
    lid_shadow = 1 - 0.35 * np.exp(-np.maximum(v - lid, 0) * 1.25)
    half.paint((0.55 + 0.4 * p.skin) * lid_shadow, 0.95 * opening)
    pupil_u, pupil_v = u - p.eye_x - side * p.gaze_x + 0.2, v - p.eye_y - p.gaze_y + 0.35 + 0.1 * upper
    radius = np.sqrt(np.square(pupil_u) + np.square(pupil_v))
    half.paint(p.iris, opening * _cover(radius - 2.0))
    half.paint(0.02, opening * _cover(radius - 0.9))
    half.paint(0.95, 0.7 * opening * _spot(pupil_u - 0.7 * side, pupil_v + 0.8, 0.6, 0.6))

    # lashes, the fold above the lid, the lower lid
    reach = _cover(ends - 0.4)
    half.paint(0.06, 0.85 * p.lash * reach * _cover(np.abs(v - lid + 0.25) - 0.35))
    half.paint(0.3 * p.skin, (0.5 - 0.3 * np.minimum(au[4], 1)) * reach * _stroke(v - lid + 1.7 + 0.3 * wide, 0.6))
    half.paint(0.3 * p.skin, 0.55 * reach * _stroke(v - under - 0.2, 0.5))


def _brow(half: Canvas, p: Person, au: Units, lean: np.ndarray) -> None:
    begin, length = p.eye_x - 4.9 - 1.1 * au[4] * lean, 10.4 + 0.6 * au[4]
    t = np.clip((half.u - begin) / length, 0, 1)  # 0 at the inner end, 1 at the outer
    frown = au[4] * lean * (3.0 - 2.0 * np.minimum(au[1], 1))
    inner = frown - 3.3 * au[1] * lean + 1.6 * au[9] * lean - p.brow_slant
    outer = 0.9 * au[4] - 3.3 * au[2] * lean + 0.4 * au[9] + 0.3 * au[6] + 0.5 * au[1] * au[4] + p.brow_slant
    arch = p.brow_arch + 0.7 * au[2] - 0.3 * au[4]
    centre = p.brow_y + inner * (1 - t) * np.sqrt(1 - t) + outer * t - 4 * arch * t * (1 - t)
    along = np.abs(half.u - begin - 0.5 * length) - 0.5 * length
    edge = np.maximum(np.abs(half.v - centre) - p.brow_thick * (0.55 - 0.32 * t), along)
    half.paint(np.minimum(0.8 * p.hair_tone, 0.55 * p.skin), p.brow_dark * _cover(0.8 * edge))


def _glasses(half: Canvas, p: Person) -> None:
    across, down = (half.u - p.eye_x - 0.3) / 6.2, (half.v - p.eye_y - 0.8) / 4.6
    rim = np.sqrt(np.square(np.square(across)) + np.square(np.square(down))) - 1
    bridge = _stroke(half.v - p.eye_y + 0.5, 0.7) * _cover(half.u - 2.6) * _cover(-half.u - 0.5)
    half.paint(p.frame, 0.8 * np.maximum(_stroke(rim, 0.2), bridge) * (p.glasses < GLASSES))


def _nose(face: Canvas, p: Person, au: Units) -> None:
    across, tip = _nose_place(face, p, au)
    side, below = np.abs(across), face.v - tip
    flare = 0.5 * au[9] + 0.3 * au[10] + 0.4 * au[12]
    face.paint(0.12 * p.skin, 0.9 * _spot(side - 1.55 - 0.3 * flare, below - 1.0, 0.95, 0.6))
    from_wing = np.sqrt(np.square(side - p.nose_width + 0.6 - flare) + 0.8 * np.square(below + 0.2))
    face.paint(0.3 * p.skin, 0.35 * _stroke(from_wing - 1.5, 0.5) * _cover(p.nose_width - flare - side))
    face.paint(0.35 * p.skin, 0.3 * _spot(across / p.nose_width, below - 1.7, 0.8, 0.7))


def _mouth(low: Canvas, p: Person, au: Units) -> None:
    pulled = np.minimum(au[12] + au[20], 1)
    dropped = np.clip(au[26] - au[12] - au[20], 0, 1)
    stretch = 0.36 * au[12] + 0.3 * au[20] + 0.05 * au[10]
    shrink = 0.12 * au[23] + 0.1 * au[17] + 0.08 * au[22] + 0.16 * np.minimum(au[26], 1) * (1 - pulled)
    width = p.mouth_width * (1 + stretch - shrink)
    s = low.u / width  # -1 and 1 at the corners
    square = np.minimum(np.square(s), 1)
    arch = 1 - square

    lift = p.mouth_rest + 3.0 * au[12] - 2.6 * au[15] - 1.3 * au[20] - 0.5 * au[10] - 0.5 * au[24]
    centre = p.mouth_y + 0.55 * lift - 0.5 * au[9] - 0.6 * au[10] - 0.9 * au[17] - 0.3 * au[26]
    seam = centre - lift * (1 + p.asymmetry * s) * square
    parted = 2.2 * au[25] + 6.0 * au[26] + 0.8 * au[16] + 0.8 * au[22] - 1.5 * au[24] - 0.5 * au[23]
    gap = parted * (parted > 0.35)
    flat = np.clip(au[20] + 0.9 * au[22] + 0.3 * au[12], 0, 1)
    profile = arch * (1 + flat * square)  # a parabola; with flat 1 it is 1 - s^4, a letter box
    profile += dropped * (np.sqrt(arch) - profile)  # with dropped 1 an ellipse
    risen = 0.28 + 0.25 * np.minimum(au[10], 1) + 0.12 * np.minimum(au[22], 1)
    risen = risen + 0.15 * dropped - 0.15 * np.minimum(au[12], 1)
    top, bottom = seam - risen * gap * profile, seam + (1 - risen) * gap * profile

    _lips(low, p, au, s, width, seam, top, bottom)
    hole = _cover(_between(low.v, top, bottom, s, width)) * np.minimum(gap, 1)
    _inside_mouth(low, p, au, hole, gap, (np.abs(s) - 1) * width, top, bottom)
    closed = (0.75 - 0.75 * np.minimum(gap, 1)) * _cover((np.abs(s) - 1) * width - 0.3)
    low.paint(0.15 * p.skin, closed * _stroke(low.v - seam, 0.55))
    low.paint(0.2 * p.skin, 0.45 * _spot(np.abs(low.u) - width, low.v - seam, 0.9, 0.8))


def _between(v: np.ndarray, top: np.ndarray, bottom: np.ndarray, s: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Distance to the area under one curve and above another, from corner (s -1) to corner (s 1)."""
    return np.maximum(np.maximum(top - v, v - bottom), (np.abs(s) - 1) * width)


def _lips(
    low: Canvas,
    p: Person,
    au: Units,
    s: np.ndarray,
    width: np.ndarray,
    seam: np.ndarray,
    top: np.ndarray,
    bottom: np.ndarray,
) -> None:
    """Paints the lips around what lies between `top` and `bottom`."""
    arch = np.maximum(1 - np.square(s), 0)
    press = 1 - 0.45 * au[23] - 0.55 * au[24] - 0.25 * au[12] - 0.2 * au[20] + 0.25 * au[22]
    press = np.clip(press, 0.25, 1.3)
    bow = 1 - 0.2 * _stroke(s, 0.14)
    upper_edge = top - arch * (p.upper_lip * press * bow + 0.45 * au[10])
    lower_edge = bottom + arch * p.lower_lip * press * (1 + 0.25 * au[17] + 0.3 * au[16])
    shine = 0.14 + 0.1 * _stroke(low.v - 0.5 * (bottom + lower_edge), 0.6)
    lips = _cover(_between(low.v, upper_edge, lower_edge, s, width))
    low.paint(p.skin * p.lip_tone * (0.72 + shine * (low.v > seam)), 0.85 * lips)


def _inside_mouth(
    low: Canvas,
    p: Person,
    au: Units,
    hole: np.ndarray,
    gap: np.ndarray,
    ends: np.ndarray,
    top: np.ndarray,
    bottom: np.ndarray,
) -> None:
    """Paints darkness, teeth and tongue into the `hole` (cover) that is `gap` pixels high."""
    low.paint(0.05, hole)
    shown = np.clip(0.9 * au[12] + 0.6 * au[10] + 0.8 * au[22] + 0.35 * au[20], 0, 1)
    reach = np.minimum(3.2, 0.85 * gap) + 3 * np.clip(au[22] - 0.2, 0, 1)
    upper = _cover(np.maximum(low.v - top - reach, ends + 0.6))
    low.paint(0.58 + 0.38 * p.skin * p.ambient, 0.95 * shown * hole * upper)
    low.paint(0.2, 0.5 * np.minimum(au[22], 1) * hole * _stroke(low.v - 0.5 * (top + bottom), 0.5))  # clenched
    shown = np.clip(0.8 * au[16] + 0.5 * au[20], 0, 1) * np.clip(gap - 1, 0, 1)
    lower = _cover(np.maximum(bottom - 1.3 - low.v, ends + 2.0))
    low.paint(0.62, 0.7 * shown * hole * lower)
    low.paint(0.45 * p.skin, 0.6 * np.minimum(au[26], 1) * hole * _spot(low.u, low.v - bottom + 0.3, 3.2, 1.3))


def _photograph(p: Person, scene: np.ndarray) -> np.ndarray:
    """What a camera makes of brightness [N, 48, 48]: uint8, with its tone curve, blur, noise and compression."""
    image = np.exp(p.gamma * np.log(np.clip(scene, 0.002, 1)))
    soft = 0.2 * np.square(p.blur)
    for axis in (1, 2):
        image += soft * (np.roll(image, 1, axis) + np.roll(image, -1, axis) - 2 * image)
    face = image[:, 12:40, 12:36]
    mean = face.mean((1, 2), keepdims=True)
    spread = np.sqrt(np.square(face - mean).mean((1, 2), keepdims=True))
    image = (image - mean) * (p.contrast / (spread + 0.03)) + p.mean + 0.03 * p.noise**3 * p.grain[:, ::-1]
    return np.round(np.clip(_compress(255 * image, p.coarseness), 0, 255)).astype(np.uint8)


def _compress(images: np.ndarray, coarseness: np.ndarray) -> np.ndarray:
    """Rounds the cosine transform of each 8x8 block, as JPEG does (ITU-T T.81): most coarsely at `coarseness` 1."""
    k = np.arange(8, dtype=np.float32)
    lengths = np.sqrt(np.where(k == 0, 1 / 8, 1 / 4))[:, None]
    cosines = (lengths * np.cos((2 * k + 1) * k[:, None] * np.pi / 16)).astype(np.float32)
    steps = ((3 + 3 * (k + k[:, None])) * (0.3 + 2.0 * coarseness**3))[:, None, None]
    blocks = (images - 128).reshape(-1, 6, 8, 6, 8).swapaxes(2, 3)
    rounded = np.round(cosines @ blocks @ cosines.T / steps) * steps
    return (cosines.T @ rounded @ cosines).swapaxes(2, 3).reshape(images.shape) + 128
