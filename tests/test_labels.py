"""The order of the classes is FER-2013's, on which every label in every file depends."""

from fer import labels


def test_the_classes_are_in_the_order_of_the_emotion_column():
    # As the Kaggle challenge of 2013 states it: 0=Angry, 1=Disgust, 2=Fear, 3=Happy, 4=Sad, 5=Surprise, 6=Neutral.
    assert labels.CLASSES == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def test_each_class_has_a_colour_of_its_own():
    assert len(set(labels.COLOURS)) == len(labels.CLASSES)


def test_each_class_has_its_ferplus_column():
    assert len(set(labels.FERPLUS_OF_CLASS)) == len(labels.CLASSES)
    assert set(labels.FERPLUS_OF_CLASS) <= set(labels.FERPLUS_COLUMNS)
