"""Training and prediction of a 3D UNet: plan, network, weights, cache, training, bundle."""

from segfed.engine.bundle import Lineage, Model, load_bundle, write_bundle
from segfed.engine.cache import PreparedCase, prepare
from segfed.engine.device import select_device
from segfed.engine.export import export_onnx, export_program
from segfed.engine.memory import training_bytes
from segfed.engine.network import UNet, build_network
from segfed.engine.plan import Plan, make_plan, read_plan
from segfed.engine.planning import DataSummary, plan_for, plan_table, summarise
from segfed.engine.prediction import (
    predict_label,
    predict_scores,
    prepared_image,
    validation_dice,
)
from segfed.engine.training import LocalTrainer, TrainSummary, train_local
from segfed.engine.weights import (
    State,
    check_weights,
    copy_state,
    from_bytes,
    read_weights,
    to_bytes,
    write_weights,
)

__all__ = [
    "DataSummary",
    "Lineage",
    "LocalTrainer",
    "Model",
    "Plan",
    "PreparedCase",
    "State",
    "TrainSummary",
    "UNet",
    "build_network",
    "check_weights",
    "copy_state",
    "export_onnx",
    "export_program",
    "from_bytes",
    "load_bundle",
    "make_plan",
    "plan_for",
    "plan_table",
    "predict_label",
    "predict_scores",
    "prepare",
    "prepared_image",
    "read_plan",
    "read_weights",
    "select_device",
    "summarise",
    "to_bytes",
    "train_local",
    "training_bytes",
    "validation_dice",
    "write_bundle",
    "write_weights",
]
