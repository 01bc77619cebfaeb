"""HarmClassifier (arXiv 2509.24384): HarmJudge's question, trained into a local model with soft labels.

* `settings`     the published values;
* `data`         labelled responses, and their split by topic;
* `soft_labels`  how sure a label is;
* `prompt`       the question, and the place of the answer;
* `scoring`      the answer's probability, and the loss;
* `adapter`      the low-rank adapter and its folder;
* `training`     updates and held-out figures;
* `judge`        `harm-classifier`, the detector.
"""

from tocsin.judges.classifier.adapter import Figures, Manifest
from tocsin.judges.classifier.data import LabelledResponse, read_labelled
from tocsin.judges.classifier.judge import HarmClassifier
from tocsin.judges.classifier.settings import ClassifierSettings
from tocsin.judges.classifier.training import Trained, train_classifier

__all__ = [
    "ClassifierSettings",
    "Figures",
    "HarmClassifier",
    "LabelledResponse",
    "Manifest",
    "Trained",
    "read_labelled",
    "train_classifier",
]
