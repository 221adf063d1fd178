"""Renders synthetic grey face images of 48x48 pixels.

A face is drawn from a person (head, skin, hair, eyes, brows, nose, mouth), an expression and a camera (pose, light,
blur, noise, compression). An expression is a set of action units, each from 0 (at rest) to about 1 (strong), with the
numbers of the Facial Action Coding System (P. Ekman and W. V. Friesen, Consulting Psychologists Press, 1978). The
action units of each emotion follow EMFACS (W. V. Friesen and P. Ekman, EMFACS-7: Emotional Facial Action Coding
System, University of California, San Francisco, 1983). Units in brackets are optional:

    angry     4 5 7 23 24 (17): brows lowered, eyes glaring, lips tight and pressed; or teeth bared by 10 22 25
    disgust   9 10 15 16 (4 7 17 25): nose wrinkled, upper lip raised, lip corners down
    fear      1 2 4 5 20 25 (26): brows raised and drawn together, upper lids raised, lips stretched
    happy     6 12 (25 26): cheeks raised, lip corners pulled up; teeth with 25
    sad       1 4 15 43 (7 17): inner brows raised, lids drooping, lip corners down
    surprise  1 2 5 25 26: brows and upper lids raised, jaw dropped
    neutral   none

The classes overlap, as they do in FER-2013: the intensity of an expression varies, single units are missing or added,
some faces mix in a second emotion, and people at rest differ in the height of their brows and the shape of their
mouths. Weak fear resembles surprise, weak sadness resembles neutral, and no classifier reaches 100 % accuracy.

Coordinates: u to the right and v down, in pixels of a face at scale 1, from the centre of the head. Every array
broadcasts to [N, 48, 48] float32, and every operation is per-sample, so that a face depends on its own parameters
alone. Edges are antialiased by the distance of a pixel's centre to the edge, without oversampling. In the drawing
functions, p is the person and au are the action units. Their constants (pixels, or fractions of a brightness) were
fitted by eye.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace as Person  # fields: TRAITS, `phase` and `grain`, see `draw_person`

import numpy as np

from fer.labels import CLASSES

SIDE = 48
CHUNK = 20  # faces rendered at once: their arrays fit into the cache of a CPU core

# Expressions of each emotion: action unit -> strength at intensity 1.
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
    "happy": ({6: 0.7, 12: 1.0}, {6: 0.7, 12: 1.0, 25: 1.3}, {6: 1.0, 12: 1.0, 25: 1.4, 26: 0.25}),
    "sad": ({1: 1.0, 4: 0.6, 15: 1.0, 17: 0.5, 43: 0.4}, {1: 1.0, 4: 0.7, 7: 0.3, 15: 0.9, 43: 0.7}),
    "surprise": ({1: 1.0, 2: 1.0, 5: 0.9, 25: 0.6, 26: 1.0}, {1: 1.0, 2: 1.0, 5: 0.8, 25: 0.4, 26: 0.6}),
    "neutral": ({},),
}
UNITS = tuple(sorted({unit for expressions in EMOTIONS.values() for units in expressions for unit in units}))

# Probabilities. A trait that is uniform in [0, 1) is compared with them.
LONG_HAIR, BEARD, GLASSES = 0.38, 0.3, 0.1
BALD = EYES_SHUT = 0.05
BLENDED = 0.08  # of a second emotion

Units = dict[int, np.ndarray]  # action unit -> strength, [N, 1, 1] float32, 0 or more

# Traits of a person and a photograph, each uniform in [low, high). Lengths are in pixels, tones from 0 (black) to 1,
# angles in radians.
TRAITS = {
    # head and skin
    "head_width": (16.2, 18.4), "forehead": (22.5, 25.5), "chin": (21.0, 24.0), "jaw": (-0.15, 0.6),
    "taper": (0.0, 0.22), "skin": (0.42, 0.92), "age": (0, 1), "gauntness": (0, 1), "cheeks": (0.4, 1.2),
    "asymmetry": (-0.18, 0.18),
    # hair
    "hair_style": (0, 1), "hair_tone": (0.2, 0.85), "hairline": (-21.5, -15.0), "parting": (-9, 9),
    "hair_width": (0.8, 3.4), "fringe": (0.0, 0.35), "waves": (0.0, 0.12), "texture": (0.05, 0.2),
    "beard": (0, 1), "beard_tone": (0.35, 0.7),
    # eyes and brows
    "eye_x": (7.4, 8.8), "eye_y": (-5.2, -3.8), "eye_width": (3.7, 4.7), "eye_open": (1.6, 2.3),
    "eye_tilt": (-0.5, 0.3), "iris": (0.08, 0.4), "lash": (0.5, 1.0), "gaze_x": (-1.0, 1.0),
    "gaze_y": (-0.4, 0.4), "blink": (0, 1), "glasses": (0, 1), "frame": (0.0, 0.5), "brow_y": (-10.4, -8.8),
    "brow_arch": (0.1, 1.4), "brow_thick": (1.1, 2.3), "brow_dark": (0.45, 0.95), "brow_slant": (-0.5, 0.5),
    # nose and mouth
    "nose_length": (4.6, 6.4), "nose_width": (2.6, 3.8), "nose_height": (2.5, 4.5), "mouth_y": (11.0, 12.6),
    "mouth_width": (5.6, 7.0), "mouth_rest": (-0.4, 0.45), "upper_lip": (0.9, 1.7), "lower_lip": (1.3, 2.3),
    "lip_tone": (0.55, 0.85),
    # surroundings, pose and camera
    "back": (0.02, 0.95), "back_slope": (-0.35, 0.35), "back_turn": (0, 2 * np.pi), "back_wave": (0.0, 0.1),
    "shirt": (0.05, 0.9), "roll": (-0.13, 0.13), "yaw": (-3.8, 3.8), "pitch": (-1.5, 1.5), "scale": (1.0, 1.22),
    "shift_x": (-1.3, 1.3), "shift_y": (-1.2, 1.2), "light_x": (-0.8, 0.8), "light_y": (-0.9, 0.0),
    "ambient": (0.35, 0.7), "gamma": (0.75, 1.3), "contrast": (0.13, 0.22), "mean": (0.42, 0.66),
    "blur": (0, 1), "noise": (0, 1), "coarseness": (0, 1),
}  # fmt: skip

# Rows and columns that can hold the parts of a face in any pose. Drawing within them avoids work on the other pixels.
UPPER, MIDDLE, LOWER = slice(0, 33), slice(11, 42), slice(21, 48)
LEFT, CENTRE, RIGHT = slice(0, 32), slice(8, 40), slice(16, 48)


@dataclasses.dataclass(frozen=True)
class Canvas:
    """Image being drawn, and the position of each pixel on the face, all [N, H, W] float32."""

    image: np.ndarray  # brightness, modified in place
    u: np.ndarray  # pixels to the right of the centre of the head
    v: np.ndarray  # pixels below the centre of the head

    def window(self, rows: slice, columns: slice = slice(None), side: float = 1.0) -> Canvas:
        """Returns a view of a part. With `side` -1 u is mirrored, so that both halves are drawn as the right one."""
        return Canvas(self.image[:, rows, columns], side * self.u[:, rows, columns], self.v[:, rows, columns])

    def paint(self, tone: np.ndarray | float, cover: np.ndarray) -> None:
        """Blends `tone` into the image with the opacity `cover` (0 to 1)."""
        self.image[...] += cover * (tone - self.image)


def draw_person(random: np.random.Generator, count: int) -> Person:
    """Samples `count` people and the camera settings of their photographs.

    Returns:
      A namespace with each of TRAITS by name, [count, 1, 1]; `phase` [count, 6, 1, 1], the phases of the waves in hair
      and background in radians; `grain` [count, 48, 48], standard normal noise. All are float32.
    """
    person = Person()
    for name, (low, high) in TRAITS.items():
        setattr(person, name, random.uniform(low, high, (count, 1, 1)).astype(np.float32))
    person.hair_tone = np.minimum(person.hair_tone**3, 0.9 * person.skin)  # mostly dark
    person.phase = random.uniform(0, 2 * np.pi, (count, 6, 1, 1)).astype(np.float32)
    person.grain = random.standard_normal((count, SIDE, SIDE), dtype=np.float32)
    return person


def draw_units(random: np.random.Generator, labels: np.ndarray) -> Units:
    """Samples an expression for each label.

    Args:
      random: the generator.
      labels: [N] integers, indices into CLASSES.

    Returns:
      Action unit -> strength, [N, 1, 1] float32, 0 or more.
    """
    shape = (len(labels), len(UNITS))
    blend = 0.4 * (random.random((len(labels), 1)) < BLENDED)
    first, second = _choose_expressions(random, labels), _choose_expressions(random, random.permutation(labels))
    chosen = (1 - 0.6 * blend) * first + blend * second
    intensity = 0.2 + 0.95 * random.beta(2.0, 1.2, (len(labels), 1))
    spread = random.uniform(0.7, 1.25, shape) * (random.random(shape) > 0.08)
    stray = random.uniform(0, 0.35, shape) * (random.random(shape) < 0.06)
    strengths = (chosen * intensity * spread + stray).astype(np.float32)
    return {unit: strengths[:, column, None, None] for column, unit in enumerate(UNITS)}


def _choose_expressions(random: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Returns one of the expressions in EMOTIONS for each label, as strengths [N, len(UNITS)]."""
    chosen = np.zeros((len(labels), len(UNITS)))
    for row, (label, chance) in enumerate(zip(labels, random.random(len(labels)))):
        expressions = EMOTIONS[CLASSES[label]]
        strengths = expressions[int(chance * len(expressions))]
        chosen[row] = [strengths.get(unit, 0.0) for unit in UNITS]
    return chosen


def render(person: Person, units: Units) -> np.ndarray:
    """Renders N faces as uint8 [N, 48, 48], from N people (`draw_person`) and N expressions (`draw_units`)."""
    images = []
    for start in range(0, len(person.grain), CHUNK):
        rows = slice(start, start + CHUNK)
        people = Person(**{name: value[rows] for name, value in vars(person).items()})
        images.append(_photograph(people, _draw_scene(people, {unit: value[rows] for unit, value in units.items()})))
    return np.concatenate(images)


def _draw_scene(p: Person, au: Units) -> np.ndarray:
    """Draws the scene from back to front. Returns its brightness [N, 48, 48], about 0 to 1."""
    pixels = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    x, y = pixels - p.shift_x, pixels[:, None] - p.shift_y
    cos, sin = np.cos(p.roll) / p.scale, np.sin(p.roll) / p.scale
    u, v = cos * x + sin * y, cos * y - sin * x
    scene = Canvas(_draw_background(p, pixels), u, v)

    chin = p.chin + 3.2 * au[26] - 0.6 * au[17]
    below, above = np.maximum(v, 0) / chin, np.minimum(v, 0) / p.forehead
    across = np.square(u / p.head_width * (1 + p.taper * below))
    along = np.square(below + above)
    radius = across + along - p.jaw * across * along  # squared, 1 on the outline; `jaw` squares an ellipse's corners
    outline = (np.sqrt(radius) - 1) * (0.95 * p.head_width)

    # A turn of the head moves the middle of the face, and leaves the outline of the head.
    face = Canvas(scene.image, u - p.yaw * np.maximum(1 - across, 0), v - p.pitch * np.maximum(1 - along, 0))
    _paint_back_hair(scene, p)
    _paint_neck_and_ears(scene, p, chin)
    face.paint(_skin_brightness(face, p, au, radius), _coverage(outline))
    for side, columns, lean in ((-1.0, LEFT, 1 + p.asymmetry), (1.0, RIGHT, 1 - p.asymmetry)):
        half = face.window(UPPER, columns, side)
        _paint_eye(half, p, au, side, lean)
        _paint_brow(half, p, au, lean)
        _paint_glasses(half, p)
    _paint_nose(face.window(MIDDLE, CENTRE), p, au)
    _paint_mouth(face.window(LOWER), p, au)
    _paint_front_hair(scene, p, outline)
    return scene.image


def _coverage(distance: np.ndarray) -> np.ndarray:
    """Returns the fraction of a pixel that an area covers, whose edge is `distance` pixels away (negative inside)."""
    return np.clip(0.5 - distance, 0, 1)


def _soft_line(distance: np.ndarray, width: float) -> np.ndarray:
    """Returns the opacity of a soft line: 1 on the line, 1/e at a distance of `width` pixels."""
    return np.exp(-np.square(distance * (1 / width)))


def _soft_spot(u: np.ndarray, v: np.ndarray, width: float, height: float) -> np.ndarray:
    """Returns the opacity of a soft spot: 1 at (0, 0), 1/e on the ellipse with semi-axes `width` and `height`."""
    return np.exp(-np.square(u * (1 / width)) - np.square(v * (1 / height)))


def _draw_background(p: Person, pixels: np.ndarray) -> np.ndarray:
    x, y = pixels[None, None, :], pixels[None, :, None]
    slope = (np.cos(p.back_turn) * x + np.sin(p.back_turn) * y) * (p.back_slope / 24)
    waves = np.sin(0.25 * x + p.phase[:, 0]) * np.sin(0.13 * y + p.phase[:, 1])
    return p.back + slope + p.back_wave * waves


def _hair_brightness(canvas: Canvas, p: Person) -> np.ndarray:
    """Returns the brightness of hair: two waves, and strands, which are noise smeared downwards."""
    grain = p.grain
    strands = grain + np.roll(grain, 1, 1) + np.roll(grain, 2, 1) + np.roll(grain, 3, 1)
    waves = np.sin(1.9 * canvas.u + 0.25 * canvas.v + p.phase[:, 2]) + np.sin(0.35 * canvas.v + p.phase[:, 3])
    return 0.02 + p.hair_tone * (1 + 0.5 * p.texture * strands + p.waves * waves)


def _paint_back_hair(scene: Canvas, p: Person) -> None:
    long = np.float32(p.hair_style < LONG_HAIR)
    width = p.head_width + p.hair_width * (0.6 + 0.6 * long)
    below = np.maximum(scene.v, 0) * (1 / (6.0 + 54.0 * long))
    above = np.minimum(scene.v, 0) / (p.forehead + p.hair_width)
    edge = (np.sqrt(np.square(scene.u / width) + np.square(below + above)) - 1) * width
    scene.paint(_hair_brightness(scene, p), _coverage(edge) * (p.hair_style < 1 - BALD))


def _paint_front_hair(scene: Canvas, p: Person, outline: np.ndarray) -> None:
    long = np.float32(p.hair_style < LONG_HAIR)
    temples = np.maximum(np.abs(scene.u) / p.head_width - 0.8, 0)
    parted = (0.018 + 0.012 * long) * np.square(scene.u - p.parting)
    ragged = np.sin(0.9 * scene.u + p.phase[:, 4]) + np.sin(2.1 * scene.u + p.phase[:, 5])
    line = p.hairline + (55 + 60 * long) * temples * (p.hairline > -19) + parted + p.fringe * ragged
    cover = _coverage(0.5 * (scene.v - line)) * _coverage(outline - 0.7 * p.hair_width)
    scene.paint(_hair_brightness(scene, p), cover * (p.hair_style < 1 - BALD))


def _paint_neck_and_ears(scene: Canvas, p: Person, chin: np.ndarray) -> None:
    side, low = np.abs(scene.u), scene.window(LOWER)
    neck = np.maximum(side[:, LOWER] - 0.62 * p.head_width, 8 - low.v)
    low.paint(p.skin * (0.5 * p.ambient) + 0.1, _coverage(neck))
    shoulders = chin + 2 + 0.35 * np.maximum(side[:, LOWER] - 0.55 * p.head_width, 0)
    low.paint(p.shirt, _coverage(0.8 * (shoulders - low.v)))
    across = np.abs(scene.u + 0.3 * p.yaw) - p.head_width - 0.3
    ear = np.sqrt(np.square(across / 2.2) + np.square((scene.v - 0.5) / 4.6))
    scene.paint(p.skin * (0.45 + 0.25 * np.minimum(ear, 1)), _coverage(2.5 * (ear - 1)) * (p.hair_style >= LONG_HAIR))


def _skin_brightness(face: Canvas, p: Person, au: Units, radius: np.ndarray) -> np.ndarray:
    """Returns the brightness of the skin: its relief lit by a lamp (Lambert's law), its lines, and a beard."""
    relief = _skin_relief(face, p, au, radius)
    slope_x, slope_y = np.zeros_like(relief), np.zeros_like(relief)
    slope_x[:, :, 1:-1] = 0.5 * (relief[:, :, 2:] - relief[:, :, :-2])
    slope_y[:, 1:-1] = 0.5 * (relief[:, 2:] - relief[:, :-2])
    towards = 1 - p.light_x * slope_x - p.light_y * slope_y
    lengths = np.sqrt((1 + np.square(slope_x) + np.square(slope_y)) * (1 + p.light_x**2 + p.light_y**2))
    tone = p.skin * (p.ambient + (1 - p.ambient) * np.maximum(towards / lengths, 0))

    tone[:, UPPER] *= 1 - np.minimum(_upper_line_darkness(face.window(UPPER), p, au), 0.7)
    tone[:, LOWER] *= 1 - np.minimum(_lower_line_darkness(face.window(LOWER), p, au), 0.7)
    bearded = np.clip(5 * (p.beard - 1 + BEARD), 0, 1) * (p.hair_style >= LONG_HAIR) * p.beard_tone
    chin_and_lip = np.clip(3 * (radius - 0.25) + np.float32(0.9) * (face.v > p.mouth_y - 4.5), 0, 1)
    reach = chin_and_lip * np.clip(0.2 * (face.v - 6.5), 0, 1)
    return tone * (1 - bearded * reach * (0.85 + 0.2 * p.grain))


def _skin_relief(face: Canvas, p: Person, au: Units, radius: np.ndarray) -> np.ndarray:
    """Returns the height of the skin above the image plane in pixels: a round head with bumps and hollows."""
    relief = 11 * np.sqrt(np.maximum(1 - radius, 0) + 0.04)
    top, low = face.window(UPPER), face.window(LOWER)
    side = np.abs(top.u)
    relief[:, UPPER] -= 1.7 * _soft_spot(side - p.eye_x + 1.2, top.v - p.eye_y + 0.5, 4.2, 3.2)
    relief[:, UPPER] += 0.7 * _soft_spot(side - 5, top.v - p.brow_y - 0.8 * au[4], 5.0, 1.6)

    middle = face.window(MIDDLE, CENTRE)
    nose, tip = _nose_position(middle, p, au)
    bridge = 0.55 * _soft_spot(nose, middle.v - tip + 4.5, 1.7, 4.0)
    ball = 0.75 * _soft_spot(nose, middle.v - tip + 0.6, 2.0, 2.2)
    wings = 1.3 * _soft_spot(np.abs(nose) - p.nose_width, middle.v - tip - 0.2 + 0.4 * au[10], 1.4, 1.6)
    relief[:, MIDDLE, CENTRE] += p.nose_height * (bridge + ball) + wings

    side, lift = np.abs(face.u), au[6] + 0.5 * au[12]
    cheek_u, cheek_v = 10.0 + 0.6 * au[12], 4.6 - 1.6 * lift
    relief += p.cheeks * (1 + 1.1 * lift) * _soft_spot(side - cheek_u, face.v - cheek_v, 4.2, 4.0)
    side, below = side[:, LOWER], low.v - p.mouth_y
    relief[:, LOWER] -= 1.1 * p.gauntness * _soft_spot(side - 11.5, low.v - 10.5, 3.2, 4.5)
    relief[:, LOWER] += (0.9 + au[17]) * _soft_spot(low.u, low.v - p.chin + 3.6, 4.0, 2.4)
    relief[:, LOWER] -= 0.9 * _soft_spot(low.u, below - 3.9 - 1.5 * au[26] - 0.8 * au[25], 4.5, 1.5)
    relief[:, LOWER] += 0.8 * _soft_spot(low.u, below, 6.0, 3.6)
    relief[:, LOWER] -= 0.5 * _soft_spot(low.u, below + 3.4, 0.9, 1.6)
    return relief


def _nose_position(face: Canvas, p: Person, au: Units) -> tuple[np.ndarray, np.ndarray]:
    """Returns the horizontal distance from the nose, and v of its tip.

    The nose stands out from the face and so moves further when the head turns.
    """
    return face.u - 0.12 * p.yaw * np.clip((face.v + 6) / 6, 0, 1), p.nose_length - 0.7 * au[9]


def _upper_line_darkness(face: Canvas, p: Person, au: Units) -> np.ndarray:
    """Returns the darkness of the lines near the brows, the eyes and the root of the nose."""
    u, v, side = face.u, face.v, np.abs(face.u)
    raised = np.maximum(au[1], au[2])
    first = v - p.brow_y + 3.2 + 1.4 * raised + 0.012 * np.square(u)
    depth = (0.05 * p.age + 0.22 * raised) * _soft_line(u, 9)
    forehead = depth * (_soft_line(first, 0.6) + 0.8 * _soft_line(first + 2.2, 0.6))
    frown = (0.05 * p.age + 0.45 * au[4]) * _soft_spot(side - 1.5, v - p.brow_y - 0.5, 0.6, 2.6)
    below = v - p.eye_y
    slanted = below - 0.35 * side
    root = 0.5 * au[9] * _soft_line(u, 3.2) * (_soft_line(slanted - 1.2, 0.55) + _soft_line(slanted + 0.9, 0.55))
    outwards = side - p.eye_x
    feet = 0.35 * au[6] * _soft_spot(outwards - 5.8, below, 1.8, 2.0) * (0.5 + 0.5 * np.cos(2.6 * below + 0.8 * side))
    depth = 0.05 + 0.1 * p.age + 0.28 * au[6] + 0.12 * au[7] + 0.15 * au[9]
    bags = depth * _soft_spot(outwards, below - 2.9 + 0.05 * np.square(outwards), 4.0, 0.7)
    return forehead + frown + root + feet + bags


def _lower_line_darkness(face: Canvas, p: Person, au: Units) -> np.ndarray:
    """Returns the darkness of the lines from the nose to the corners of the mouth, near the mouth and on the chin."""
    u, v, side = face.u, face.v, np.abs(face.u)
    spread = 0.9 * au[12] + 0.5 * au[20]
    down = 0.125 * v - 0.5
    bulge = (0.6 + 1.2 * spread) * np.sin(np.pi * np.clip(down, 0, 1))
    path = p.nose_width + 1.2 + (3.6 + 2.2 * spread) * down + bulge + 0.4 * au[9]
    ends = np.clip(0.5 * (v - 2.5 + au[9]), 0, 1) * np.clip(0.25 * (13 - 2 * au[12] - v), 0, 1)
    depth = 0.05 + 0.1 * p.age + 0.26 * au[12] + 0.24 * au[9] + 0.18 * au[10] + 0.1 * au[15]
    fold = depth * _soft_line(side - path, 1.15) * ends
    chin = 0.3 * au[17] * _soft_spot(u, v - p.chin + 4.2, 2.8, 0.9) * (0.6 + 0.4 * np.sin(2.4 * u + v))
    below = v - p.mouth_y
    shadow = 0.22 * _soft_spot(u, below - 3.6 - 1.6 * au[26] - au[25], 4.0, 0.9)
    corners = 0.3 * au[15] * _soft_spot(side - p.mouth_width - 1.2 - 0.25 * below, below - 3.0, 0.8, 2.0)
    return fold + chin + shadow + corners


def _paint_eye(half: Canvas, p: Person, au: Units, side: float, lean: np.ndarray) -> None:
    u, v = half.u, half.v
    s = (u - p.eye_x) / p.eye_width  # -1 at the inner corner, 1 at the outer
    arch = np.maximum(1 - np.square(s), 0)
    is_open = (p.blink > EYES_SHUT) | (au[5] > 0.2)
    squeeze = np.clip(0.75 * au[7] + 0.7 * au[6] + 0.6 * au[9], 0, 1.2) * lean
    droop, wide = au[43] * lean, au[5] * lean
    narrowed = p.eye_open * (1 - 0.25 * au[7] - 0.3 * au[6] - 0.35 * au[9] - 0.4 * droop)
    upper = np.maximum(narrowed + 1.6 * wide - 0.35 * au[4] * (1 - np.minimum(au[5], 1)), 0.25) * is_open
    lower = np.maximum(1.15 - 0.95 * squeeze + 0.25 * au[5], 0.1) * is_open - 0.5 * au[6]
    level = p.eye_y + (p.eye_tilt + 0.7 * droop + 0.4 * au[1] * au[4]) * s
    lid, under = level - upper * arch * (1 - 0.18 * s), level + lower * arch * (1 + 0.15 * s)
    ends = (np.abs(s) - 1) * p.eye_width
    opening = _coverage(np.maximum(np.maximum(lid - v, v - under), ends))

    # white, iris, pupil, glint
    lid_shadow = 1 - 0.35 * np.exp(-np.maximum(v - lid, 0) * 1.25)
    half.paint((0.55 + 0.4 * p.skin) * lid_shadow, 0.95 * opening)
    pupil_u, pupil_v = u - p.eye_x - side * p.gaze_x + 0.2, v - p.eye_y - p.gaze_y + 0.35 + 0.1 * upper
    radius = np.sqrt(np.square(pupil_u) + np.square(pupil_v))
    half.paint(p.iris, opening * _coverage(radius - 2.0))
    half.paint(0.02, opening * _coverage(radius - 0.9))
    half.paint(0.95, 0.7 * opening * _soft_spot(pupil_u - 0.7 * side, pupil_v + 0.8, 0.6, 0.6))

    # lashes, the fold above the lid, the lower lid
    reach = _coverage(ends - 0.4)
    half.paint(0.06, 0.85 * p.lash * reach * _coverage(np.abs(v - lid + 0.25) - 0.35))
    half.paint(0.3 * p.skin, (0.5 - 0.3 * np.minimum(au[4], 1)) * reach * _soft_line(v - lid + 1.7 + 0.3 * wide, 0.6))
    half.paint(0.3 * p.skin, 0.55 * reach * _soft_line(v - under - 0.2, 0.5))


def _paint_brow(half: Canvas, p: Person, au: Units, lean: np.ndarray) -> None:
    begin, length = p.eye_x - 4.9 - 1.1 * au[4] * lean, 10.4 + 0.6 * au[4]
    t = np.clip((half.u - begin) / length, 0, 1)  # 0 at the inner end, 1 at the outer
    frown = au[4] * lean * (3.0 - 2.0 * np.minimum(au[1], 1))
    inner = frown - 3.3 * au[1] * lean + 1.6 * au[9] * lean - p.brow_slant
    outer = 0.9 * au[4] - 3.3 * au[2] * lean + 0.4 * au[9] + 0.3 * au[6] + 0.5 * au[1] * au[4] + p.brow_slant
    arch = p.brow_arch + 0.7 * au[2] - 0.3 * au[4]
    centre = p.brow_y + inner * (1 - t) * np.sqrt(1 - t) + outer * t - 4 * arch * t * (1 - t)
    along = np.abs(half.u - begin - 0.5 * length) - 0.5 * length
    edge = np.maximum(np.abs(half.v - centre) - p.brow_thick * (0.55 - 0.32 * t), along)
    half.paint(np.minimum(0.8 * p.hair_tone, 0.55 * p.skin), p.brow_dark * _coverage(0.8 * edge))


def _paint_glasses(half: Canvas, p: Person) -> None:
    across, down = (half.u - p.eye_x - 0.3) / 6.2, (half.v - p.eye_y - 0.8) / 4.6
    rim = np.sqrt(np.square(np.square(across)) + np.square(np.square(down))) - 1
    bridge = _soft_line(half.v - p.eye_y + 0.5, 0.7) * _coverage(half.u - 2.6) * _coverage(-half.u - 0.5)
    half.paint(p.frame, 0.8 * np.maximum(_soft_line(rim, 0.2), bridge) * (p.glasses < GLASSES))


def _paint_nose(face: Canvas, p: Person, au: Units) -> None:
    across, tip = _nose_position(face, p, au)
    side, below = np.abs(across), face.v - tip
    flare = 0.5 * au[9] + 0.3 * au[10] + 0.4 * au[12]
    face.paint(0.12 * p.skin, 0.9 * _soft_spot(side - 1.55 - 0.3 * flare, below - 1.0, 0.95, 0.6))
    from_wing = np.sqrt(np.square(side - p.nose_width + 0.6 - flare) + 0.8 * np.square(below + 0.2))
    face.paint(0.3 * p.skin, 0.35 * _soft_line(from_wing - 1.5, 0.5) * _coverage(p.nose_width - flare - side))
    face.paint(0.35 * p.skin, 0.3 * _soft_spot(across / p.nose_width, below - 1.7, 0.8, 0.7))


@dataclasses.dataclass(frozen=True)
class Mouth:
    """Shape of a mouth, in pixels; all arrays broadcast to [N, H, W]."""

    s: np.ndarray  # position from corner (-1) to corner (1)
    width: np.ndarray  # half the distance of the corners
    seam: np.ndarray  # v of the line where closed lips meet
    top: np.ndarray  # v of the upper edge of the opening
    bottom: np.ndarray  # v of the lower edge of the opening
    gap: np.ndarray  # height of the opening

    def distance(self, v: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Returns the distance to the area between the edges `upper` and `lower` and the corners, negative inside."""
        return np.maximum(np.maximum(upper - v, v - lower), (np.abs(self.s) - 1) * self.width)


def _paint_mouth(low: Canvas, p: Person, au: Units) -> None:
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

    mouth = Mouth(s, width, seam, top, bottom, gap)
    _paint_lips(low, p, au, mouth)
    _paint_mouth_interior(low, p, au, mouth)
    closed = (0.75 - 0.75 * np.minimum(gap, 1)) * _coverage((np.abs(s) - 1) * width - 0.3)
    low.paint(0.15 * p.skin, closed * _soft_line(low.v - seam, 0.55))
    low.paint(0.2 * p.skin, 0.45 * _soft_spot(np.abs(low.u) - width, low.v - seam, 0.9, 0.8))


def _paint_lips(low: Canvas, p: Person, au: Units, mouth: Mouth) -> None:
    """Paints the lips around the opening of the mouth."""
    arch = np.maximum(1 - np.square(mouth.s), 0)
    press = 1 - 0.45 * au[23] - 0.55 * au[24] - 0.25 * au[12] - 0.2 * au[20] + 0.25 * au[22]
    press = np.clip(press, 0.25, 1.3)
    bow = 1 - 0.2 * _soft_line(mouth.s, 0.14)
    upper_edge = mouth.top - arch * (p.upper_lip * press * bow + 0.45 * au[10])
    lower_edge = mouth.bottom + arch * p.lower_lip * press * (1 + 0.25 * au[17] + 0.3 * au[16])
    shine = 0.14 + 0.1 * _soft_line(low.v - 0.5 * (mouth.bottom + lower_edge), 0.6)
    lips = _coverage(mouth.distance(low.v, upper_edge, lower_edge))
    low.paint(p.skin * p.lip_tone * (0.72 + shine * (low.v > mouth.seam)), 0.85 * lips)


def _paint_mouth_interior(low: Canvas, p: Person, au: Units, mouth: Mouth) -> None:
    """Paints darkness, teeth and tongue into the opening of the mouth."""
    gap, top, bottom, ends = mouth.gap, mouth.top, mouth.bottom, (np.abs(mouth.s) - 1) * mouth.width
    hole = _coverage(mouth.distance(low.v, top, bottom)) * np.minimum(gap, 1)
    low.paint(0.05, hole)
    shown = np.clip(0.9 * au[12] + 0.6 * au[10] + 0.8 * au[22] + 0.35 * au[20], 0, 1)
    reach = np.minimum(3.2, 0.85 * gap) + 3 * np.clip(au[22] - 0.2, 0, 1)
    upper = _coverage(np.maximum(low.v - top - reach, ends + 0.6))
    low.paint(0.58 + 0.38 * p.skin * p.ambient, 0.95 * shown * hole * upper)
    low.paint(0.2, 0.5 * np.minimum(au[22], 1) * hole * _soft_line(low.v - 0.5 * (top + bottom), 0.5))  # clenched
    shown = np.clip(0.8 * au[16] + 0.5 * au[20], 0, 1) * np.clip(gap - 1, 0, 1)
    lower = _coverage(np.maximum(bottom - 1.3 - low.v, ends + 2.0))
    low.paint(0.62, 0.7 * shown * hole * lower)
    low.paint(0.45 * p.skin, 0.6 * np.minimum(au[26], 1) * hole * _soft_spot(low.u, low.v - bottom + 0.3, 3.2, 1.3))


def _photograph(p: Person, scene: np.ndarray) -> np.ndarray:
    """Applies tone curve, blur, contrast, noise and compression to a brightness [N, 48, 48]. Returns uint8."""
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
    """Quantizes the cosine transform of each 8x8 block as JPEG does (ITU-T T.81); `coarseness` 1 is the coarsest."""
    k = np.arange(8, dtype=np.float32)
    lengths = np.sqrt(np.where(k == 0, 1 / 8, 1 / 4))[:, None]
    cosines = (lengths * np.cos((2 * k + 1) * k[:, None] * np.pi / 16)).astype(np.float32)
    steps = ((3 + 3 * (k + k[:, None])) * (0.3 + 2.0 * coarseness**3))[:, None, None]
    blocks = (images - 128).reshape(-1, 6, 8, 6, 8).swapaxes(2, 3)
    rounded = np.round(cosines @ blocks @ cosines.T / steps) * steps
    return (cosines.T @ rounded @ cosines).swapaxes(2, 3).reshape(images.shape) + 128
