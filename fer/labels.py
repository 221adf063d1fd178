"""The seven expressions: their order, names and colours, and how FER+ names them."""

# The order is FER-2013's own: column `emotion` holds the index.
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

# Pixels a side of a face, which is grey and square, and in all.
SIDE = 48
PIXELS = SIDE * SIDE

# Okabe and Ito's palette (2008), told apart by colour-blind readers too; black stands for neutral.
COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#0072B2", "#56B4E9", "#000000")

# The columns of Microsoft's fer2013new.csv that hold votes, in its order (Barsoum et al. 2016, arXiv:1608.01041).
FERPLUS_COLUMNS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)

# The FER+ column that votes for each class, in the order of CLASSES.
FERPLUS_OF_CLASS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
